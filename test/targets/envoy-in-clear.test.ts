// PROMISE: an Envoy that our discovery serves, gateway or sidecar, never speaks in clear to an endpoint that wants mutual TLS, whatever
// of a change comes first. With the real Envoy.
import { connect, type Socket } from 'node:net'
import { fromBinary } from '@bufbuild/protobuf'
import t from 'tap'
import { parseBindRange } from '../../src/resources/bind-address.ts'
import { sidecarResources } from '../../src/resources/sidecar-resources.ts'
import { ClusterSchema } from '../../src/xds/gen/envoy/config/cluster/v3/cluster_pb.js'
import { TYPE } from '../../src/xds/types.ts'
import { endpoints, OUTBOUND, readAll, sidecarListener } from '../proxy/support.ts'
import { bundlesOf, modelOf, service, yamlOf } from '../resources/world.ts'
import { EnvoyTarget } from './envoy-target.ts'
import { Recorder } from './recorder.ts'
import { unavailable } from './target.ts'

const bundles = await bundlesOf('cluster-1', 'cluster-2')

/** The sidecars' cluster for productpage; `remote` adds gateways of another cluster, `pinned` or not. */
function clusterFor(local: number, remote?: readonly string[]) {
  const entry = {
    apiVersion: 'networking.istio.io/v1',
    kind: 'ServiceEntry',
    metadata: { name: 'remote', namespace: 'bookinfo' },
    spec: {
      hosts: ['productpage.bookinfo.svc.cluster.local'],
      location: 'MESH_INTERNAL',
      resolution: 'STATIC',
      ports: [{ name: 'http', number: 9080, protocol: 'HTTP' }],
      endpoints: [
        {
          address: '203.0.113.1',
          ports: { http: 15443 },
          labels: { 'security.istio.io/tlsMode': 'istio', 'xcp.tetrate.io/cluster': 'cluster-2' },
        },
      ],
      subjectAltNames: remote,
    },
  }
  const yaml =
    service({ name: 'productpage', pods: [`127.0.0.1:${local}`] }) +
    (remote === undefined ? '' : yamlOf(entry))
  const bind = parseBindRange('127.240.0.0/16')
  if (!bind.ok) throw new Error(bind.error)
  const options = { bind: bind.value, bundles, secrets: true, hostNames: false, credentialFile: '' }
  const snapshot = sidecarResources(modelOf(yaml), options).snapshot()
  const found = snapshot.get(TYPE.cluster)?.get(OUTBOUND)
  if (found === undefined) throw new Error('no cluster')
  return found
}

async function ask(port: number): Promise<string> {
  const socket = connect({ host: '127.0.0.1', port })
  socket.on('error', () => {})
  socket.write('secret')
  const answer = (await readAll(socket)).toString()
  socket.destroy()
  return answer
}

t.test(
  'a remote endpoint that comes before its cluster’s new form gets no clear text; a local one does',
  { skip: unavailable('envoy') ?? false },
  async (t) => {
    const answering = (socket: Socket) => socket.once('data', () => socket.end('answer'))
    const [local, remote] = await Promise.all([Recorder.listen(answering), Recorder.listen(answering)])
    const resources = (specs: Parameters<typeof endpoints>[1]) => ({
      listeners: [sidecarListener({ protocol: 'tcp' })],
      clusters: [clusterFor(local.port)],
      endpoints: [endpoints(OUTBOUND, specs)],
      secrets: [],
    })
    const target = await EnvoyTarget.start(resources([{ port: local.port }]))
    t.teardown(async () => {
      await target.stop()
      await Promise.all([local.close(), remote.close()])
    })
    const port = target.port('productpage_9080')
    t.equal(await ask(port), 'answer', 'a local pod, in clear')
    // The assignment of the next state, the cluster of this one.
    await target.update(resources([{ port: remote.port, tls: true }]))
    let answer = 'answer'
    while (answer === 'answer' && remote.connects === 0) answer = await ask(port)
    t.equal(answer, '')
    t.ok(remote.connects > 0, 'it was tried')
    t.notOk(remote.connections.some(({ bytes }) => bytes.includes('secret')))
    t.ok(
      remote.connections.every(({ bytes }) => bytes.length === 0 || bytes[0] === 0x16),
      'a ClientHello at most',
    )
  },
)

t.test(
  'every form of a cluster has a match for who wants mutual TLS before the one for clear text',
  async (t) => {
    const ids = ['spiffe://cluster-2.local/ns/bookinfo/sa/eastwest-gateway']
    for (const remote of [undefined, [], ids]) {
      const { transportSocketMatches, transportSocket } = fromBinary(
        ClusterSchema,
        clusterFor(1, remote).body,
      )
      t.same(
        transportSocketMatches.map(({ match, transportSocket }) => [match ?? {}, transportSocket?.name]),
        [
          [{ tlsMode: 'istio' }, 'envoy.transport_sockets.tls'],
          [{}, 'envoy.transport_sockets.raw_buffer'],
        ],
      )
      t.equal(transportSocket, undefined)
    }
  },
)
