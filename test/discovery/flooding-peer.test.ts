// Peers that are who they say they are, and send garbage, or more than anybody may: suspended, named, counted, and nobody else notices.
import { createSecureServer, type ServerHttp2Stream } from 'node:http2'
import type { AddressInfo } from 'node:net'
import t from 'tap'
import { createCa } from '../../src/identity/ca.ts'
import { parseCredential } from '../../src/identity/credential.ts'
import { serverTlsOptions } from '../../src/identity/tls.ts'
import { TrustBundles } from '../../src/identity/trust-bundle.ts'
import { encodeContent, encodeNonce } from '../../src/xds/codec-response.ts'
import { messagePrefix } from '../../src/xds/grpc.ts'
import { TYPE } from '../../src/xds/types.ts'
import { gateway, peer, reachability, service, setting, workspace } from '../resources/world.ts'
import { TestCluster } from './cluster.ts'

const names = ['cluster-1', 'cluster-2', 'cluster-3']
const [bad, ca2] = await Promise.all([
  createCa({ trustDomain: 'cluster-1.local' }),
  createCa({ trustDomain: 'cluster-2.local' }),
])
const networks = reachability(names, { 'cluster-2-network': 'cluster-1-network,cluster-3-network' })

/** A discovery server of cluster-1 that answers each stream with these messages, and nothing else. */
async function answering(message: (stream: ServerHttp2Stream) => void) {
  const issued = await bad.issue({ namespace: 'isthmus-system', serviceAccount: 'isthmus-discovery' })
  const credential = parseCredential(issued.certificatePem, issued.privateKeyPem, 'test')
  if (!credential.ok) throw new Error(credential.error.message)
  const tls = serverTlsOptions(credential.value, new TrustBundles([ca2.bundle]))
  const server = createSecureServer({ ...tls, ALPNProtocols: ['h2'] })
  let streams = 0
  server.on('stream', (stream, headers) => {
    stream.on('error', () => {})
    if (!String(headers[':path']).includes('AggregatedDiscoveryService')) {
      stream.respond(
        { ':status': 200, 'content-type': 'application/grpc', 'grpc-status': '12' },
        { endStream: true },
      )
      return
    }
    streams++
    stream.respond({ ':status': 200, 'content-type': 'application/grpc' })
    message(stream)
  })
  server.on('sessionError', () => {})
  const sessions = new Set<{ destroy(): void }>()
  server.on('session', (session) => sessions.add(session))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const close = () => {
    for (const session of sessions) session.destroy()
    server.close()
  }
  return { port: (server.address() as AddressInfo).port, close, streams: () => streams }
}

function send(stream: ServerHttp2Stream, message: Uint8Array): void {
  stream.write(Buffer.concat([messagePrefix(message.length), message]))
}

/** One response of these many entries with nothing in them, as much as 4 MiB take. */
function endless(count: number): Buffer {
  const body = new Uint8Array()
  const resources = Array.from({ length: count }, (_, i) => ({
    ...{ name: `xcp-multicluster/n${i}`, version: '1', anyTypeUrl: '', body },
  }))
  const parts = encodeContent(
    'delta',
    { typeUrl: TYPE.serviceEntry, version: '1', resources, removed: [] },
    '',
  )
  return Buffer.concat([...parts, encodeNonce('00000001')])
}

const imported = (cluster: TestCluster): number => cluster.store.list('ServiceEntry').length
const connected = (cluster: TestCluster) =>
  cluster.discovery
    .conditions()
    .find(({ object, type }) => type === 'Connected' && object === 'Cluster/acme/cluster-1')
const link = (cluster: TestCluster) => cluster.discovery.federation.links().get('cluster-1')

for (const [what, fault, message] of [
  ['garbage', 'Garbage', (stream: ServerHttp2Stream) => send(stream, Buffer.alloc(64, 0xff))],
  [
    'a million names, 100,000 at a time',
    'OverLimit',
    (stream: ServerHttp2Stream) => {
      const part = endless(100_000)
      for (let i = 0; i < 10; i++) send(stream, part)
    },
  ],
] as const) {
  t.test(
    `${what}: the peer is suspended and named, and a change of another peer comes through`,
    async (t) => {
      const hostile = await answering(message)
      const third = await TestCluster.start('cluster-3', {
        yaml:
          service({ name: 'productpage', pods: ['10.0.3.10:8080'] }) +
          service({ name: 'details', pods: ['10.0.3.20:9080'] }) +
          gateway('203.0.113.30') +
          workspace +
          setting([{ app: 'details' }]) +
          networks +
          peer('cluster-2', ca2.bundlePem),
      })
      const second = await TestCluster.start('cluster-2', {
        ca: ca2,
        yaml:
          networks +
          peer('cluster-1', bad.bundlePem, `127.0.0.1:${hostile.port}`) +
          peer('cluster-3', third.ca.bundlePem, `127.0.0.1:${third.port}`),
      })
      t.teardown(async () => {
        hostile.close()
        await Promise.all([second.stop(), third.stop()])
      })
      await second.until('the fault', () => connected(second)?.reason === fault)
      t.match(connected(second), { status: false, message: new RegExp(`^${fault}: `) })
      t.match(link(second)?.offers.refusals.get(fault), 1)
      await second.until('details', () => imported(second) === 1)
      await third.apply(setting())
      await second.until('both of the other peer', () => imported(second) === 2)
      await second.until('the second attempt', () => hostile.streams() === 2, 10_000)
      t.ok(
        (link(second)?.offers.refusals.get(fault) ?? 0) <= 2,
        'one answer for each attempt, and a pause between',
      )
      t.equal(imported(second), 2)
    },
  )
}
