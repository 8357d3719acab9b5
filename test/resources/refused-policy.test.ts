// An AuthorizationPolicy that cannot be read and never could: whom it keeps out, and where.
import t from 'tap'
import { computeModel } from '../../src/model/compute.ts'
import { parseManifestFile } from '../../src/objects/manifest-file.ts'
import { ObjectTable } from '../../src/objects/object-table.ts'
import { compileRbac } from '../../src/proxy/rbac.ts'
import { acceptListener } from '../../src/resources/accept-listener.ts'
import { gatewayResources } from '../../src/resources/gateway-resources.ts'
import { TYPE } from '../../src/xds/types.ts'
import { bundlesOf, gateway, peer, reachability, service, setting, workspace, yamlOf } from './world.ts'

const bundles = await bundlesOf('cluster-1', 'cluster-2')
const base =
  service({ name: 'productpage', pods: ['10.0.1.10:8080'] }) +
  gateway('203.0.113.10') +
  workspace +
  setting() +
  reachability(['cluster-1', 'cluster-2'], { 'cluster-2-network': 'cluster-1-network' }) +
  peer('cluster-2', bundles[1]?.pem ?? '')

const policy = (spec: unknown, namespace = 'bookinfo') =>
  yamlOf({
    apiVersion: 'security.istio.io/v1',
    kind: 'AuthorizationPolicy',
    metadata: { name: 'p', namespace },
    spec,
  })
const typo = { rules: [{ from: [{ source: { principal: ['x'] } }] }] }

const caller = {
  id: 'spiffe://cluster-2.local/ns/client/sa/sleep',
  serverName: 'outbound_.9080_._.productpage.bookinfo.svc.cluster.local',
  otherNames: [],
  remoteIp: '198.51.100.7',
  directRemoteIp: '198.51.100.7',
  destinationIp: '10.0.0.1',
  port: 15443,
}

/** What the gateway says to the caller, with this text in a file beside the story. */
function judged(text: string) {
  const table = new ObjectTable((a, b) => (a < b ? -1 : 1))
  table.update(new Map([['base.yaml', parseManifestFile(base, 'base.yaml', {})]]))
  table.update(new Map([['policy.yaml', parseManifestFile(text, 'policy.yaml', {})]]))
  const model = computeModel({
    cluster: 'cluster-1',
    trustDomain: 'cluster-1.local',
    list: (kind) => table.list(kind),
    refused: (kind) => table.refused(kind),
  })
  const bind = { address: '0.0.0.0', port: 15443 }
  const options = { bind, bundles, secrets: true, credentialFile: '', issuers: true }
  const found = gatewayResources(model, model.gateways[0], options)
    .snapshot()
    .get(TYPE.listener)
    ?.get('eastwest')
  const accepted = found && acceptListener(found)
  if (accepted?.ok !== true) throw new Error(JSON.stringify(accepted))
  return { ...compileRbac(accepted.value.chains[0]?.rbac ?? []).judge(caller), model }
}

t.test('nobody gets in where a policy cannot be read, and the denial says why', async (t) => {
  t.ok(judged('').allowed)
  for (const action of ['ALLOW', 'DENY', 'DENNY']) {
    const { allowed, reason, drains, model } = judged(policy({ action, ...typo }))
    t.notOk(allowed, action)
    t.notOk(drains, 'who is inside is cut')
    t.match(reason, /"AuthorizationPolicy bookinfo\/p cannot be read" denies/)
    t.match(
      model.conditions.find(({ object }) => object === 'AuthorizationPolicy/bookinfo/p'),
      {
        type: 'Accepted',
        status: false,
        reason: 'Invalid',
        message:
          /spec\.rules\[0\]\.from\[0\]\.source\.principal: .*nobody may call through gateway bookinfo\//s,
      },
    )
  }
})

t.test('only gateways that it could have been for are closed', async (t) => {
  const closes = (spec: object, namespace?: string) =>
    !judged(policy({ ...typo, ...spec }, namespace)).allowed
  t.ok(closes({}, 'istio-system'))
  t.notOk(closes({}, 'elsewhere'))
  t.ok(closes({ selector: { matchLabels: { app: 'eastwest-gateway' } } }))
  t.notOk(
    closes({ selector: { matchLabels: { app: 'productpage' } } }),
    'a selector that can be read is believed',
  )
  t.ok(closes({ selector: { matchLabels: { app: 'no label!' } } }), 'and one that cannot be is not')
  t.ok(closes({ selector: { matchLabel: { app: 'productpage' } } }))
  t.ok(closes({ selectors: { matchLabels: { app: 'productpage' } } }))
  t.ok(closes({ selector: { matchLabels: { app: `\${MISSING}` } } }))
  t.notOk(closes({ targetRefs: [{ kind: 'Gateway', name: 'x' }] }))
  t.ok(closes({ targetRefs: 'x' }))
  t.notOk(judged(policy(1)).allowed, 'nothing of its spec can be read')
})

t.test('what is attached by targetRefs has no effect at a gateway, and that is said', async (t) => {
  const { allowed, model } = judged(
    policy({ action: 'DENY', targetRefs: [{ kind: 'Gateway', name: 'x' }], rules: [{}] }),
  )
  t.ok(allowed)
  t.match(
    model.conditions.filter(({ object }) => object === 'AuthorizationPolicy/bookinfo/p'),
    [
      {
        type: 'Accepted',
        status: false,
        reason: 'UnsupportedField',
        message: /^spec\.targetRefs: has no effect at gateway bookinfo\//,
      },
    ],
  )
})
