// A real Envoy as the gateway, which has a certificate for its ADS stream only: the one that it shows to callers is minted by discovery,
// or comes from an agent, and is renewed under traffic. Runs where ENVOY_BIN names one.
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { type AddressInfo, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { connect } from 'node:tls'
import t from 'tap'
import { createCa } from '../../src/identity/ca.ts'
import { ownSecret } from '../../src/resources/own-secret.ts'
import { SdsAgent } from '../credentials/sds-agent.ts'
import { gateway, peer, reachability, service, setting, workspace } from '../resources/world.ts'
import { TestCluster } from './cluster.ts'
import { startEnvoy, WITHOUT_ENVOY } from './envoy-process.ts'

const SNI = 'outbound_.9080_._.productpage.bookinfo.svc.cluster.local'
const GATEWAY = 'spiffe://cluster-1.local/ns/bookinfo/sa/eastwest-gateway'

async function listening(answer: string) {
  const server = createServer((socket) => {
    socket.on('error', () => {})
    socket.end(answer)
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  return { server, port: (server.address() as AddressInfo).port }
}

for (const source of ['Delta', 'SotW', 'agent'] as const) {
  const title = {
    Delta: 'an Envoy gateway serves with minted certificates and loses no call at a renewal, Delta',
    SotW: 'an Envoy gateway serves with minted certificates and loses no call at a renewal, SotW',
    agent: 'an Envoy gateway serves with the certificates of an agent on its machine, an SDS server',
  }
  t.test(title[source], { skip: WITHOUT_ENVOY }, async (t) => {
    const folder = await mkdtemp(join(tmpdir(), 'isthmus-minted-'))
    t.teardown(() => rm(folder, { recursive: true, force: true }))
    const backend = await listening('productpage')
    t.teardown(() => backend.server.close())
    const free = await listening('')
    free.server.close()
    const callers = await createCa({ trustDomain: 'cluster-2.local' })
    const cluster = await TestCluster.start('cluster-1', {
      signing: source !== 'agent',
      svidLifetimeMs: 4_000,
      yaml:
        service({ name: 'productpage', pods: [`127.0.0.1:${backend.port}`] }) +
        gateway('127.0.0.1', 'bookinfo', free.port) +
        workspace +
        setting() +
        reachability(['cluster-1', 'cluster-2'], { 'cluster-2-network': 'cluster-1-network' }) +
        peer('cluster-2', callers.bundlePem),
    })
    t.teardown(() => cluster.stop())
    const identity = { namespace: 'bookinfo', serviceAccount: 'eastwest-gateway' }
    const agent = new SdsAgent(join(folder, 'sds.sock'))
    const renew = async () => agent.put(ownSecret(await cluster.ca.issue(identity)))
    if (source === 'agent') {
      await renew()
      await agent.start()
      t.teardown(() => agent.stop())
    }
    const issued = await cluster.ca.issue(identity)
    const [certificate, key, ca] = ['tls.crt', 'tls.key', 'ca.crt'].map((name) => join(folder, name))
    if (certificate === undefined || key === undefined || ca === undefined) throw new Error('no names')
    await writeFile(certificate, issued.certificatePem)
    await writeFile(key, issued.privateKeyPem)
    await writeFile(ca, cluster.ca.bundlePem)
    const envoy = await startEnvoy(folder, {
      id: 'router~127.0.0.1~eastwest-gateway.bookinfo~x',
      cluster: cluster.name,
      ads: `127.0.0.1:${cluster.port}`,
      bind: `127.0.0.1:${free.port}`,
      credential: { certificate, key, ca },
      minted: true,
      sotw: source === 'SotW',
      ...(source === 'agent' && { sdsSocket: agent.path }),
    })
    t.teardown(() => envoy.kill('SIGKILL'))
    const svid = await callers.issue({ namespace: 'bookinfo', serviceAccount: 'sleep' })
    const call = async () => {
      const client = connect({
        ...{ host: '127.0.0.1', port: free.port, servername: SNI, ca: cluster.ca.bundlePem },
        ...{ cert: svid.certificatePem, key: svid.privateKeyPem, checkServerIdentity: () => undefined },
      })
      let [said, serial, id] = ['', '', '']
      client.on('error', () => {})
      client.on('secureConnect', () => {
        const peer = client.getPeerCertificate()
        serial = peer.serialNumber
        id = peer.subjectaltname ?? ''
        client.write('x')
      })
      client.on('data', (chunk) => {
        said += chunk
      })
      await new Promise((resolve) => client.once('close', resolve))
      return { said, serial, id }
    }
    const deadline = Date.now() + 30_000
    let first = await call()
    while (first.said === '' && Date.now() < deadline) {
      await pause(50)
      first = await call()
    }
    t.equal(first.said, 'productpage')
    t.equal(first.id, `URI:${GATEWAY}`)
    t.not(first.serial, '')
    const serials = new Set([first.serial])
    if (source === 'agent') await renew()
    const lost: object[] = []
    while (serials.size < 3 && Date.now() < deadline) {
      const known = serials.size
      const next = await call()
      if (next.said !== 'productpage' || next.id !== `URI:${GATEWAY}`) lost.push(next)
      serials.add(next.serial)
      if (source === 'agent' && serials.size > known) await renew()
      await pause(20)
    }
    t.equal(serials.size, 3, 'two renewals')
    t.strictSame(lost, [], 'and no call was lost')
    for (const { types } of cluster.discovery.clients())
      for (const [type, { lastError }] of Object.entries(types)) t.equal(lastError, '', type)
  })
}
