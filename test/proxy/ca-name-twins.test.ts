import { once } from 'node:events'
import t from 'tap'
import { TYPE } from '../../src/xds/types.ts'
import { mintLeaf, mintRoot } from '../identity/mint.ts'
import { backend, gateway, gone, trustSecret } from './support.ts'

t.test(
  "a CA that bears the name of another trust domain's locks nobody out, and lets nobody in",
  async (t) => {
    const target = await backend()
    const world = await gateway(target)
    const [issuing] = world.peer.bundle.certificates.filter(({ root }) => !root)
    const twin = mintRoot('twin', { subjectDer: issuing?.certificate.subject })
    const evil = { trustDomain: 'a.example', bundlePem: twin.pem }
    const call = async (options: object) => {
      const client = world.open(options)
      let heard = ''
      client.on('data', (chunk) => {
        heard += String(chunk)
        client.end()
      })
      client.on('error', () => {})
      client.write('x')
      await gone(client)
      return heard
    }
    for (const bundles of [
      [world.home, world.peer],
      [evil, world.home, world.peer],
      [world.home, world.peer],
    ]) {
      world.proxy.put(TYPE.secret, trustSecret(bundles))
      for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
        const said = `${bundles.length} bundles, ${maxVersion}`
        t.equal(await call({ maxVersion }), 'x', `a good client, ${said}`)
        const before = target.accepts
        t.equal(
          await call({ maxVersion, cert: undefined, key: undefined }),
          '',
          `without a certificate, ${said}`,
        )
        for (const id of [
          'spiffe://cluster-1.example/ns/bookinfo/sa/sleep',
          'spiffe://cluster-2.example/ns/a/sa/b',
        ]) {
          const leaf = mintLeaf(twin, id)
          t.equal(
            await call({ maxVersion, cert: leaf.pem, key: leaf.keyPem }),
            '',
            `${id} by the twin, ${said}`,
          )
        }
        t.equal(target.accepts, before, `nobody else reached the backend, ${said}`)
      }
    }
    const refused = world.proxy.log.filter(({ flag }) => flag === 'ID_REFUSED').length
    t.equal(refused, 18)
    const last = await world.connect()
    last.write('x')
    t.equal(String((await once(last, 'data'))[0]), 'x')
    last.destroy()
    await Promise.all([world.proxy.engine.close(), target.close()])
  },
)
