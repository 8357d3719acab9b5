// Subsets and pods by their own names, called through our gateway over real sockets.
import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import { connect } from 'node:tls'
import t, { type Test } from 'tap'
import { type Ca, createCa } from '../../src/identity/ca.ts'
import { gatewayResources } from '../../src/resources/gateway-resources.ts'
import { TYPE } from '../../src/xds/types.ts'
import { credentialSecret, readAll, TestProxy } from '../proxy/support.ts'
import { gateway, modelOf, peer, reachability, setting, workspace, yamlOf } from '../resources/world.ts'

const [home, away] = (await Promise.all(
  ['cluster-1', 'cluster-2'].map((name) => createCa({ trustDomain: `${name}.local` })),
)) as [Ca, Ca]
const HOST = 'web.bookinfo.svc.cluster.local'

/** A server that says which pod it is. */
async function podOf(t: Test, name: string): Promise<number> {
  const server = createServer((socket) => {
    socket.on('error', () => {})
    socket.end(name)
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => server.close())
  return (server.address() as AddressInfo).port
}

/** Pods of a StatefulSet; each has a slice of its own, since each has a port of its own on this one machine. */
function workloads(
  pods: readonly { readonly name: string; readonly version: string; readonly port: number }[],
) {
  return yamlOf(
    {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name: 'web', namespace: 'bookinfo' },
      spec: { clusterIP: 'None', selector: { app: 'web' }, ports: [{ name: 'tcp', port: 80 }] },
    },
    {
      apiVersion: 'networking.istio.io/v1',
      kind: 'DestinationRule',
      metadata: { name: 'web', namespace: 'bookinfo' },
      spec: {
        host: 'web',
        subsets: ['v1', 'v2'].map((version) => ({ name: version, labels: { version } })),
      },
    },
    ...pods.flatMap(({ name, version, port }) => [
      {
        apiVersion: 'v1',
        kind: 'Pod',
        metadata: { name, namespace: 'bookinfo', labels: { app: 'web', version } },
        spec: { serviceAccountName: 'web', containers: [{ name: 'c' }] },
      },
      {
        apiVersion: 'discovery.k8s.io/v1',
        kind: 'EndpointSlice',
        metadata: { name, namespace: 'bookinfo', labels: { 'kubernetes.io/service-name': 'web' } },
        addressType: 'IPv4',
        ports: [{ name: 'tcp', port, protocol: 'TCP' }],
        endpoints: [{ addresses: ['127.0.0.1'], hostname: name, targetRef: { kind: 'Pod', name } }],
      },
    ]),
  )
}

t.test('a subset answers with its own pods, a pod with itself, an unknown name with nothing', async (t) => {
  const ports = await Promise.all(['web-0', 'web-1', 'web-2'].map((name) => podOf(t, name)))
  const pods = ports.map((port, i) => ({ name: `web-${i}`, version: i === 0 ? 'v1' : 'v2', port }))
  const model = modelOf(
    workloads(pods) +
      gateway('127.0.0.1') +
      workspace +
      setting() +
      reachability(['cluster-1', 'cluster-2'], { 'cluster-2-network': 'cluster-1-network' }) +
      peer('cluster-2', away.bundlePem) +
      yamlOf({
        apiVersion: 'security.istio.io/v1',
        kind: 'AuthorizationPolicy',
        metadata: { name: 'no-thief', namespace: 'bookinfo' },
        spec: {
          action: 'DENY',
          rules: [
            {
              from: [{ source: { principals: ['cluster-2.local/ns/client/sa/thief'] } }],
              when: [{ key: 'connection.sni', values: [`outbound_.80_._.${HOST}`] }],
            },
          ],
        },
      }),
  )
  const snapshot = gatewayResources(model, model.gateways[0], {
    bind: { address: '127.0.0.1', port: 0 },
    bundles: [home, away].map((ca) => ({ trustDomain: ca.trustDomain, pem: ca.bundlePem })),
    secrets: true,
    credentialFile: '',
    issuers: true,
  }).snapshot()
  const proxy = new TestProxy()
  t.teardown(() => proxy.engine.close())
  for (const type of [TYPE.cluster, TYPE.endpoints, TYPE.listener, TYPE.secret])
    proxy.put(type, ...(snapshot.get(type)?.values() ?? []))
  const identity = { namespace: 'bookinfo', serviceAccount: 'eastwest-gateway' }
  proxy.put(TYPE.secret, credentialSecret(await home.issue(identity)))
  const port = await proxy.port('eastwest')
  const caller = await away.issue({ namespace: 'client', serviceAccount: 'sleep' })
  const ask = async (servername: string, who = caller): Promise<string> => {
    const socket = connect({
      host: '127.0.0.1',
      port,
      servername,
      ALPNProtocols: ['istio'],
      cert: who.certificatePem,
      key: who.privateKeyPem,
      ca: home.bundlePem,
      checkServerIdentity: () => undefined,
    })
    socket.on('error', () => {})
    return (await readAll(socket)).toString()
  }
  const answers = async (servername: string): Promise<string[]> => {
    const found = await Promise.all(Array.from({ length: 12 }, () => ask(servername)))
    return [...new Set(found)].sort()
  }

  t.strictSame(await answers(`outbound_.80_.v1_.${HOST}`), ['web-0'])
  t.strictSame(await answers(`outbound_.80_.v2_.${HOST}`), ['web-1', 'web-2'])
  t.strictSame(await answers(`outbound_.80_._.web-1.${HOST}`), ['web-1'])
  t.strictSame(await answers(`outbound_.80_._.${HOST}`), ['web-0', 'web-1', 'web-2'])
  t.equal(await ask('web-2.web.bookinfo:80'), 'web-2', 'as a gRPC client asks')
  for (const unknown of [
    `outbound_.80_.v3_.${HOST}`,
    `outbound_.80_._.web-3.${HOST}`,
    `outbound_.80_.v1_.web-0.${HOST}`,
  ])
    t.equal(await ask(unknown), '', unknown)

  const thief = await away.issue({ namespace: 'client', serviceAccount: 'thief' })
  for (const part of [`_.${HOST}`, `v1_.${HOST}`, `_.web-1.${HOST}`])
    t.equal(await ask(`outbound_.80_.${part}`, thief), '', `denied by the policy about the service: ${part}`)
})
