// PROMISE (S7): without a certificate of the mesh the TLS handshake at 15443 is refused, and no byte reaches a service; what is
// not exposed, unknown or unnamed ends the same way for everybody. Every refusal has its line in the access log.
import t from 'tap'
import { run, serverName, startDemo, until } from './harness.ts'

t.setTimeout(200_000)
t.test('at the door', async (t) => {
  const demo = await startDemo(t)
  const { gateway } = demo.cluster('cluster-1')
  const address = gateway?.address ?? ''
  const { sleep } = demo.cluster('cluster-2').identities

  await t.test('no certificate', async (t) => {
    const { output } = await demo.knock(address, serverName('productpage'))
    t.match(output, /alert (certificate required|bad certificate|handshake failure)/i)
    t.notMatch(output, /HTTP\//)
  })
  await t.test('a certificate of a CA that nobody here trusts, with our own name in it', async (t) => {
    const dir = t.testdir()
    const cli = (...args: string[]) =>
      run([process.execPath, new URL('../../src/isthmus.js', import.meta.url).pathname, 'certs', ...args])
    t.equal((await cli('init', '--trust-domain', 'cluster-2.local', '--dir', `${dir}/ca`)).code, 0)
    t.equal(
      (
        await cli(
          'issue',
          '--ca',
          `${dir}/ca`,
          '--namespace',
          'client',
          '--service-account',
          'sleep',
          '--out',
          `${dir}/me`,
        )
      ).code,
      0,
    )
    const forged = { cert: `${dir}/me/tls.crt`, key: `${dir}/me/tls.key`, roots: sleep.roots }
    const { output } = await demo.knock(address, serverName('productpage'), forged)
    t.notMatch(output, /HTTP\//)
  })
  await t.test('a name that is not exposed, though the certificate is good', async (t) => {
    const { output } = await demo.knock(address, serverName('no-such-service'), sleep)
    t.match(output, /unrecognized name/i)
    t.notMatch(output, /HTTP\//)
    await until('a line in the access log', 5_000, () =>
      demo
        .log('cluster-1', /eastwest-gateway/)
        .find((line) => JSON.stringify(line).includes('no-such-service')),
    )
  })
  await t.test('the same certificate and an exposed name: the service answers', async (t) => {
    const { output } = await demo.knock(address, serverName('productpage'), sleep)
    t.match(output, /HTTP\/1\.1 200/)
  })
})
