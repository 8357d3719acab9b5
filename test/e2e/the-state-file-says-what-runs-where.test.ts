// PROMISE: `--state FILE` is written once everything serves, and again at each change: addresses that answer, files that are there,
// one pid per process that can be killed.

import { X509Certificate } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { connect } from 'node:net'
import t from 'tap'
import { alive, allPids, startDemo, until } from './harness.ts'

t.setTimeout(200_000)
t.test('the state file', async (t) => {
  const demo = await startDemo(t)
  const { ready, folder, clusters } = demo.state
  t.equal(ready, true)
  t.strictSame(Object.keys(clusters), ['cluster-1', 'cluster-2', 'cluster-3'])
  for (const [name, { trustDomain, network, yaml, ca, discovery, identities }] of Object.entries(clusters)) {
    t.equal(trustDomain, `${name}.local`)
    t.equal(network, '', 'not named yet')
    t.ok(yaml.startsWith(folder))
    const issuer = new X509Certificate(readFileSync(ca.cert))
    t.ok(issuer.verify(new X509Certificate(readFileSync(ca.root)).publicKey))
    t.match(readFileSync(ca.key, 'utf8'), /PRIVATE KEY/)
    const { cert, key, roots, spiffe } = identities.sleep
    t.equal(new X509Certificate(readFileSync(cert)).subjectAltName, `URI:${spiffe}`)
    t.match(readFileSync(key, 'utf8'), /PRIVATE KEY/)
    t.equal(readFileSync(roots, 'utf8').match(/BEGIN CERTIFICATE/g)?.length, 6)
    for (const address of [discovery.ads, discovery.adsPlain, discovery.admin]) await answers(address)
  }
  const [one, two] = [demo.cluster('cluster-1'), demo.cluster('cluster-2')]
  for (const at of [one.gateway?.address, one.gateway?.admin]) await answers(at)
  for (const { sidecar } of [one, two])
    for (const at of [sidecar?.socks, sidecar?.connect, sidecar?.admin, sidecar?.dns]) await answers(at)
  t.equal(two.gateway, null)
  t.equal(one.gateway?.pids.length, 3, 'launcher, supervisor, worker')
  t.equal(one.sidecar?.pids.length, 3)
  const pids = allPids(demo.state)
  t.strictSame(alive(pids), pids)

  const [killed] = one.discovery.pids
  process.kill(killed ?? 0, 'SIGKILL')
  const [other] = await until('another pid', 20_000, () => {
    const { pids } = demo.cluster('cluster-1').discovery
    return pids.length === 1 && pids[0] !== killed ? pids : undefined
  })
  t.not(other, killed)
})

function answers(address: string | undefined): Promise<void> {
  const [host = '', port] = (address ?? '').split(':')
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port: Number(port) }, () => {
      socket.destroy()
      resolve()
    })
    socket.on('error', (error) => reject(new Error(`${address}: ${error.message}`)))
  })
}
