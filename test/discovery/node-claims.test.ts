import t from 'tap'
import { clientKind, credentialClaim, dnsClaim, tooOldForGateway } from '../../src/discovery/node-claims.ts'
import { type NodeInfo, TYPE } from '../../src/xds/types.ts'
import { gateway } from '../resources/world.ts'
import { TestCluster } from './cluster.ts'

const node = (userAgentName: string, metadata: Record<string, unknown> = {}): NodeInfo => ({
  ...{ id: 'sidecar~10.0.0.1~sleep.bookinfo~x', cluster: '', userAgentName, metadata },
  locality: { region: '', zone: '' },
})

t.test('the kind of a client is that of its library, by the names that libraries have', async (t) => {
  t.equal(clientKind(node('envoy')), 'envoy')
  for (const name of ['gRPC Go', 'gRPC Node Pure JS', 'gRPC C-core linux', 'gRPC Java'])
    t.equal(clientKind(node(name)), 'grpc', name)
  for (const name of ['isthmus', '', 'gRPCish']) t.equal(clientKind(node(name)), 'isthmus', `"${name}"`)
})

t.test('an Envoy that is too old to be a safe gateway is refused as one, and only as one', async (t) => {
  const of = (userAgentName: string, userAgentVersion: string) => ({
    ...node(userAgentName),
    userAgentVersion,
  })
  for (const version of ['1.36.4', '1.9.0', '0.99.0'])
    t.match(tooOldForGateway(of('envoy', version)), new RegExp(`^Envoy ${version} .* 1.37 or later`))
  for (const version of ['1.37.0', '1.40.0', '2.0.0'])
    t.equal(tooOldForGateway(of('envoy', version)), undefined)
  t.equal(tooOldForGateway(node('envoy')), undefined)
  t.equal(tooOldForGateway(of('isthmus', '0.1.0')), undefined)

  const cluster = await TestCluster.start('cluster-1', { yaml: gateway('127.0.0.1') })
  t.teardown(() => cluster.stop())
  const claims = { userAgentName: 'envoy', userAgentVersion: '1.36.4' }
  const identity = { namespace: 'bookinfo', serviceAccount: 'eastwest-gateway' }
  const router = await cluster.client(
    { id: 'router~10.0.0.7~eastwest-gateway.bookinfo~x', ...claims },
    identity,
  )
  router.start()
  await router.until('the refusal', ({ lastError }) =>
    lastError.includes('user_agent_build_version: Envoy 1.36.4'),
  )
  t.strictSame(router.names(TYPE.listener), [])
  const sidecar = await cluster.client({ id: 'sidecar~10.0.0.7~sleep.bookinfo~x', ...claims }, identity)
  sidecar.start()
  await sidecar.until('its view', (seen) => seen.answered(TYPE.listener))
})

t.test('DNS of an Envoy: where it answers, and whom it asks', async (t) => {
  t.strictSame(dnsClaim(node('envoy')), { ok: true, value: undefined })
  const asked = { ISTHMUS_DNS: '127.0.0.1:15053', ISTHMUS_DNS_RESOLVERS: '10.96.0.10,fd00::a,[fd00::b]:5353' }
  t.strictSame(dnsClaim(node('envoy', asked)), {
    ok: true,
    value: {
      listen: { address: '127.0.0.1', port: 15053 },
      resolvers: [
        { address: '10.96.0.10', port: 53 },
        { address: 'fd00::a', port: 53 },
        { address: 'fd00::b', port: 5353 },
      ],
    },
  })
})

t.test('a claim that is no address is named, with what was expected', async (t) => {
  for (const wrong of [
    'dns',
    '127.0.0.1',
    '127.0.0.1:',
    '127.0.0.1:65536',
    '127.0.0.1:0x35',
    ':53',
    '1.2.3.4:1e1',
  ])
    t.match(dnsClaim(node('envoy', { ISTHMUS_DNS: wrong })), {
      ok: false,
      error: `"${wrong}": expected IP:PORT`,
    })
  const resolvers = dnsClaim(
    node('envoy', { ISTHMUS_DNS: '127.0.0.1:53', ISTHMUS_DNS_RESOLVERS: 'kube-dns' }),
  )
  t.match(resolvers, { ok: false, error: 'node.metadata.ISTHMUS_DNS_RESOLVERS "kube-dns"' })
})

t.test('where an Envoy has its certificate: a file, the cluster of an agent, or discovery', async (t) => {
  const of = (metadata: Record<string, unknown>) => credentialClaim(node('envoy', metadata))
  t.strictSame(of({}), { ok: true, value: '' })
  t.strictSame(of({ ISTHMUS_CREDENTIAL_FILE: '/etc/sds.yaml' }), { ok: true, value: '/etc/sds.yaml' })
  t.strictSame(of({ ISTHMUS_CREDENTIAL_CLUSTER: 'sds-grpc' }), { ok: true, value: 'cluster:sds-grpc' })
  t.match(of({ ISTHMUS_CREDENTIAL_FILE: 'cluster:x' }), { ok: false, error: /expected an absolute path/ })
  t.match(of({ ISTHMUS_CREDENTIAL_FILE: '/a', ISTHMUS_CREDENTIAL_CLUSTER: 'b' }), {
    ok: false,
    error: /give one of them/,
  })
})
