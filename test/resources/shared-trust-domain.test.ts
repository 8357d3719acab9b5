// Callers of a trust domain that a second cluster claims: who is nobody is cut, and whose cluster may not call drains.
import t from 'tap'
import { createCa } from '../../src/identity/ca.ts'
import type { TrustBundle } from '../../src/identity/trust-bundle.ts'
import { computeModel } from '../../src/model/compute.ts'
import { compileRbac } from '../../src/proxy/rbac.ts'
import { acceptListener } from '../../src/resources/accept-listener.ts'
import { gatewayResources } from '../../src/resources/gateway-resources.ts'
import { TYPE } from '../../src/xds/types.ts'
import {
  gateway,
  listOf,
  parseYaml,
  peer,
  reachability,
  service,
  setting,
  workspace,
  yamlOf,
} from './world.ts'

const [ca1, ca2] = await Promise.all(
  ['cluster-1', 'cluster-2'].map((name) => createCa({ trustDomain: `${name}.local` })),
)
if (ca1 === undefined || ca2 === undefined) throw new Error('no CA')
const rootKey = ca2.bundle.roots[0]?.publicKeyHash ?? ''
const intermediateKey = ca2.bundle.certificates.find(({ root }) => !root)?.publicKeyHash ?? ''

const namesake = yamlOf({
  apiVersion: 'api.tsb.tetrate.io/v2',
  kind: 'Cluster',
  metadata: { organization: 'acme', name: 'cluster-9' },
  spec: { network: 'cluster-9-network', trustDomain: 'cluster-2.local' },
})
const everything = { 'cluster-2-network': 'cluster-1-network' }

/** What the gateway says to a caller of cluster-2.local, by the key that signed him. */
function gatewayOf(more: string, reachable: Record<string, string> = everything, bundle2?: TrustBundle) {
  const yaml =
    service({ name: 'productpage', pods: ['10.0.1.10:8080'] }) +
    gateway('203.0.113.10') +
    workspace +
    setting() +
    reachability(['cluster-1', 'cluster-2'], reachable) +
    peer('cluster-2', ca2?.bundlePem ?? '') +
    more
  const model = computeModel({
    cluster: 'cluster-1',
    trustDomain: 'cluster-1.local',
    list: listOf(parseYaml(yaml)),
    bundleOf: (of) => (of === undefined ? ca1?.bundle : bundle2),
  })
  const bundles = [ca1, ca2].map((ca, i) => ({
    trustDomain: `cluster-${i + 1}.local`,
    pem: ca?.bundlePem ?? '',
  }))
  const bind = { address: '0.0.0.0', port: 15443 }
  const options = { bind, bundles, secrets: true, credentialFile: '', issuers: true }
  const found = gatewayResources(model, model.gateways[0], options)
    .snapshot()
    .get(TYPE.listener)
    ?.get('eastwest')
  const accepted = found && acceptListener(found)
  if (accepted?.ok !== true) throw new Error(JSON.stringify(accepted))
  const { judge } = compileRbac(accepted.value.chains[0]?.rbac ?? [])
  return (issuer: string, trustDomain = 'cluster-2.local') => {
    const { allowed, drains, reason } = judge({
      id: `spiffe://${trustDomain}/ns/client/sa/sleep`,
      issuer,
      serverName: 'outbound_.9080_._.productpage.bookinfo.svc.cluster.local',
      otherNames: [],
      remoteIp: '198.51.100.7',
      directRemoteIp: '198.51.100.7',
      destinationIp: '10.0.0.1',
      port: 15443,
    })
    return allowed ? 'allowed' : `${drains ? 'drains' : 'cut'}: ${reason}`
  }
}

t.test(
  'a second cluster of the trust domain, with no bundle: whom the root signed is cut by name',
  async (t) => {
    const alone = gatewayOf('', everything, ca2.bundle)
    t.equal(alone(rootKey), 'allowed')
    t.equal(alone(intermediateKey), 'allowed')
    const shared = gatewayOf(namesake, everything, ca2.bundle)
    t.match(
      shared(rootKey),
      /^cut: policy "ambiguous trust domain: "cluster-2.local" belongs to cluster-2, cluster-9" denies/,
    )
    t.equal(shared(intermediateKey), 'allowed', 'it is cluster-2’s alone')
    t.equal(shared('any', 'cluster-1.local'), 'allowed', 'other trust domains have nothing to do with it')
  },
)

t.test('where no CA tells the two apart everybody of the trust domain is cut', async (t) => {
  t.equal(gatewayOf('')(intermediateKey), 'allowed')
  const judge = gatewayOf(namesake)
  t.match(judge(intermediateKey), /^cut: policy "ambiguous trust domain/)
  t.match(judge(rootKey), /^cut: /)
  t.equal(judge('any', 'cluster-1.local'), 'allowed')
})

t.test('a cluster that is known and may not call still drains', async (t) => {
  const judge = gatewayOf(namesake, {}, ca2.bundle)
  t.match(judge(intermediateKey), /^drains: no policy allows/)
  t.match(judge(rootKey), /^cut: /)
})
