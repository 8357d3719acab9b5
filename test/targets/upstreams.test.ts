// The same upstreams through our engine and through Envoy: which endpoint a hash leads to, and the bytes of a PROXY header.
import { once } from 'node:events'
import { type AddressInfo, connect } from 'node:net'
import { connect as connectTls } from 'node:tls'
import type { JsonObject } from '@bufbuild/protobuf'
import t from 'tap'
import { createCa } from '../../src/identity/ca.ts'
import { decodeProxyHeader } from '../../src/proxy/proxy-protocol-decode.ts'
import {
  type Backend,
  backend,
  credentialSecret,
  OUTBOUND,
  readAll,
  SNI,
  sidecarListener,
  trustSecret,
} from '../proxy/support.ts'
import { assignmentOf, clusterOf } from '../proxy/upstream-resource.ts'
import { EngineTarget } from './engine-target.ts'
import { EnvoyTarget } from './envoy-target.ts'
import { edge } from './resources.ts'
import { type Resources, type Target, type TargetKind, unavailable } from './target.ts'

const KINDS = ['node', 'bun', 'envoy'] as const

async function start(kind: TargetKind, first: Resources): Promise<Target> {
  if (kind === 'envoy') return EnvoyTarget.start(first)
  const target = new EngineTarget(kind)
  await target.update(first)
  return target
}

async function ask(port: number, localAddress: string): Promise<string> {
  const socket = connect({ host: '127.0.0.1', port, localAddress })
  await once(socket, 'connect')
  const answer = (await readAll(socket)).toString()
  socket.destroy()
  return answer
}

t.test(
  'a source address leads to the same endpoint here and there',
  { skip: unavailable('envoy') ?? false },
  async (t) => {
    const backends: Backend[] = []
    for (let i = 0; i < 5; i += 1) backends.push(await backend((socket) => socket.end(String(i))))
    t.teardown(() => Promise.all(backends.map((one) => one.close())))
    const resources = (cluster: JsonObject): Resources => ({
      listeners: [sidecarListener({ protocol: 'tcp', hashSourceIp: true })],
      clusters: [clusterOf(OUTBOUND, cluster)],
      endpoints: [
        assignmentOf(
          OUTBOUND,
          // In no order: what an Envoy sorts, and what it does not, is to be seen.
          [3, 0, 4, 2, 1].map((i) => ({ port: backends[i]?.port ?? 0, loadBalancingWeight: 1 + (i % 3) })),
        ),
      ],
      secrets: [],
    })
    const policies: readonly JsonObject[] = [
      { lbPolicy: 'RING_HASH' },
      { lbPolicy: 'RING_HASH', ringHashLbConfig: { minimumRingSize: 64, hashFunction: 'MURMUR_HASH_2' } },
      { lbPolicy: 'MAGLEV', maglevLbConfig: { tableSize: 1_009 } },
    ]
    const sources = Array.from({ length: 120 }, (_, i) => `127.0.${1 + (i % 7)}.${1 + i}`)
    const chosen: Record<string, string[]> = {}
    for (const kind of KINDS) {
      const target = await start(kind, resources(policies[0] ?? {}))
      t.teardown(() => target.stop())
      chosen[kind] = []
      for (const cluster of policies) {
        await target.update(resources(cluster))
        const port = target.port('productpage_9080')
        const answers: string[] = []
        for (const source of sources) answers.push(await ask(port, source))
        chosen[kind].push(answers.join(''))
      }
    }
    for (const [i, policy] of policies.entries()) {
      for (const kind of ['node', 'bun'])
        t.equal(chosen[kind]?.[i], chosen['envoy']?.[i], `${kind}: ${JSON.stringify(policy)}`)
      t.ok(new Set(chosen['node']?.[i]).size > 2, 'spread over several')
    }
  },
)

t.test(
  'a PROXY header is the same, TLVs and their order included',
  { skip: unavailable('envoy') ?? false },
  async (t) => {
    const [home, peer] = await Promise.all([
      createCa({ trustDomain: 'cluster-2.example' }),
      createCa({ trustDomain: 'cluster-1.example' }),
    ])
    const identity = await home.issue({ namespace: 'eastwest', serviceAccount: 'gateway' })
    const client = await peer.issue({ namespace: 'bookinfo', serviceAccount: 'sleep' })
    const target = await backend((socket) => socket.once('data', (data) => socket.end(data)))
    t.teardown(() => target.close())
    const transport = (version: string): JsonObject => ({
      transportSocket: {
        name: 'envoy.transport_sockets.upstream_proxy_protocol',
        typedConfig: {
          '@type':
            'type.googleapis.com/envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport',
          config: { version, ...(version === 'V2' && { passThroughTlvs: {} }) },
          transportSocket: {
            name: 'envoy.transport_sockets.raw_buffer',
            typedConfig: {
              '@type': 'type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer',
            },
          },
        },
      },
    })
    const resources = (version: string): Resources => ({
      listeners: [
        edge('eastwest', [
          {
            proxyProtocolTlvs: [
              [0xe0, '%DOWNSTREAM_PEER_URI_SAN%'],
              [0x02, '%REQUESTED_SERVER_NAME%'],
              [0xe1, 'over %DOWNSTREAM_TLS_VERSION% to %UPSTREAM_CLUSTER%'],
            ],
          },
        ]),
      ],
      clusters: [clusterOf(SNI, transport(version))],
      endpoints: [assignmentOf(SNI, [{ port: target.port }])],
      secrets: [credentialSecret(identity), trustSecret([home, peer])],
    })
    const heard: Record<string, string[]> = {}
    for (const kind of KINDS) {
      const one = await start(kind, resources('V2'))
      t.teardown(() => one.stop())
      heard[kind] = []
      for (const version of ['V2', 'V1']) {
        await one.update(resources(version))
        const port = one.port('eastwest')
        const socket = connectTls({
          host: '127.0.0.1',
          port,
          servername: SNI,
          cert: client.certificatePem,
          key: client.privateKeyPem,
          ca: home.bundlePem,
          checkServerIdentity: () => undefined,
        })
        await once(socket, 'secureConnect')
        const own = (socket.address() as AddressInfo).port
        const bytes = await readAll(socket)
        const result = decodeProxyHeader(bytes)
        t.match(
          result,
          { header: { addresses: { source: { port: own }, destination: { port } } } },
          `${kind} ${version}`,
        )
        // The ports are others each time.
        heard[kind].push(
          version === 'V1'
            ? bytes.toString().replace(String(own), 'client').replace(String(port), 'listener')
            : `${bytes.toString('hex', 0, 24)}…${bytes.toString('hex', 28)}`,
        )
        socket.destroy()
      }
    }
    t.same(heard['node'], heard['envoy'])
    t.same(heard['bun'], heard['envoy'])
  },
)
