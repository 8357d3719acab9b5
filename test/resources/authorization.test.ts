// Istio's AuthorizationPolicy at a gateway: YAML in, and who is let in by what our engine makes of the resources.
import t from 'tap'
import { type Caller, compileRbac } from '../../src/proxy/rbac.ts'
import { acceptListener } from '../../src/resources/accept-listener.ts'
import { gatewayResources } from '../../src/resources/gateway-resources.ts'
import { TYPE } from '../../src/xds/types.ts'
import {
  bundlesOf,
  gateway,
  modelOf,
  peer,
  reachability,
  service,
  setting,
  workspace,
  yamlOf,
} from './world.ts'

const SNI = 'outbound_.9080_._.productpage.bookinfo.svc.cluster.local'
const bundles = await bundlesOf('cluster-1', 'cluster-2')
const base =
  service({ name: 'productpage', pods: ['10.0.1.10:8080'] }) +
  gateway('203.0.113.10') +
  workspace +
  setting() +
  reachability(['cluster-1', 'cluster-2'], { 'cluster-2-network': 'cluster-1-network' }) +
  peer('cluster-2', bundles[1]?.pem ?? '')

const policy = (spec: object, name = 'p', namespace = 'bookinfo') =>
  yamlOf({
    apiVersion: 'security.istio.io/v1',
    kind: 'AuthorizationPolicy',
    metadata: { name, namespace },
    spec,
  })

function gatewayWith(...policies: string[]) {
  const model = modelOf(base + policies.join(''))
  const options = {
    bind: { address: '0.0.0.0', port: 15443 },
    bundles,
    secrets: true,
    credentialFile: '',
    issuers: true,
  }
  const found = gatewayResources(model, model.gateways[0], options)
    .snapshot()
    .get(TYPE.listener)
    ?.get('eastwest')
  const accepted = found && acceptListener(found)
  if (accepted?.ok !== true) throw new Error(JSON.stringify(accepted))
  const [chain] = accepted.value.chains
  const rbac = chain?.rbac ?? []
  const { judge } = compileRbac(rbac)
  const authorization = compileRbac(rbac.filter(({ name }) => name.startsWith('isthmus.authorization.')))
  return {
    model,
    filters: rbac.map(({ name }) => name),
    /** What the policies alone say. */
    authorize: (over: Partial<Caller> = {}) => authorization.judge({ ...CALLER, ...over }),
    judge: (over: Partial<Caller> = {}) => judge({ ...CALLER, ...over }),
  }
}

const CALLER = {
  id: 'spiffe://cluster-2.local/ns/client/sa/sleep',
  serverName: SNI,
  otherNames: [],
  remoteIp: '198.51.100.7',
  directRemoteIp: '10.0.0.9',
  destinationIp: '10.0.0.1',
  port: 15443,
} as unknown as Caller
const other = { id: 'spiffe://cluster-2.local/ns/client/sa/other' }
const allowed = (it: ReturnType<typeof gatewayWith>, over?: Partial<Caller>) => it.judge(over).allowed

t.test(
  'no policy, no filter; an ALLOW policy lets nothing in but what it matches, and names itself',
  async (t) => {
    t.strictSame(gatewayWith().filters, ['isthmus.reachability'])
    const it = gatewayWith(
      policy({ rules: [{ from: [{ source: { principals: ['cluster-2.local/ns/client/sa/sleep'] } }] }] }),
    )
    t.strictSame(it.filters, ['isthmus.reachability', 'isthmus.authorization.allow'])
    t.match(it.judge(), { allowed: true, policy: 'ALLOW AuthorizationPolicy/bookinfo/p rules[0]' })
    t.match(it.judge(other), { allowed: false, drains: false })
    const stranger = { id: 'spiffe://cluster-9.local/ns/client/sa/sleep' }
    t.match(it.judge(stranger), { allowed: false }, 'reachability is asked as well')
    t.notOk(allowed(gatewayWith(policy({}))), 'no rules: nothing is allowed')
    t.ok(allowed(gatewayWith(policy({ rules: [{}] }))), 'an empty rule: everything is')
  },
)

t.test('DENY comes first, and names itself', async (t) => {
  const it = gatewayWith(
    policy({ rules: [{}] }, 'all'),
    policy({ action: 'DENY', rules: [{ from: [{ source: { namespaces: ['client'] } }] }] }, 'no-clients'),
  )
  t.match(it.judge(), {
    allowed: false,
    drains: false,
    reason:
      'policy "DENY AuthorizationPolicy/bookinfo/no-clients rules[0]" denies spiffe://cluster-2.local/ns/client/sa/sleep',
  })
  t.ok(
    allowed(it, { id: 'spiffe://cluster-2.local/ns/clients/sa/sleep' }),
    'the whole namespace, not its beginning',
  )
})

t.test('every field of a source, an operation and a condition', async (t) => {
  const from = (source: object) => gatewayWith(policy({ rules: [{ from: [{ source }] }] }))
  const when = (key: string, values: string[], field = 'values') =>
    gatewayWith(policy({ rules: [{ when: [{ key, [field]: values }] }] }))
  const yes: [string, ReturnType<typeof gatewayWith>][] = [
    ['principals *', from({ principals: ['*'] })],
    ['principals prefix', from({ principals: ['cluster-2.local/*'] })],
    ['principals suffix', from({ principals: ['*/sa/sleep'] })],
    ['principals or', from({ principals: ['x', 'cluster-2.local/ns/client/sa/sleep'] })],
    ['notPrincipals', from({ notPrincipals: ['cluster-2.local/ns/client/sa/other'] })],
    ['namespaces', from({ namespaces: ['client'] })],
    ['namespaces prefix', from({ namespaces: ['cli*'] })],
    ['serviceAccounts', from({ serviceAccounts: ['client/sleep'] })],
    ['ipBlocks', from({ ipBlocks: ['10.0.0.0/24'] })],
    ['notIpBlocks', from({ notIpBlocks: ['198.51.100.0/24'] })],
    ['remoteIpBlocks', from({ remoteIpBlocks: ['198.51.100.7'] })],
    ['all of one source', from({ principals: ['*'], ipBlocks: ['10.0.0.9'] })],
    ['ports', gatewayWith(policy({ rules: [{ to: [{ operation: { ports: ['15443', '1'] } }] }] }))],
    ['notPorts', gatewayWith(policy({ rules: [{ to: [{ operation: { notPorts: ['443'] } }] }] }))],
    ['source.ip', when('source.ip', ['10.0.0.0/8'])],
    ['remote.ip', when('remote.ip', ['198.51.100.0/24'])],
    ['source.namespace', when('source.namespace', ['client'])],
    ['source.principal', when('source.principal', ['cluster-2.local/ns/client/*'])],
    ['destination.port', when('destination.port', ['15443'])],
    ['destination.ip', when('destination.ip', ['10.0.0.1'])],
    ['connection.sni', when('connection.sni', [SNI])],
    ['connection.sni suffix', when('connection.sni', ['*.productpage.bookinfo.svc.cluster.local'])],
    ['connection.sni notValues', when('connection.sni', ['outbound_.9080_._.details*'], 'notValues')],
  ]
  for (const [name, it] of yes) t.ok(allowed(it), name)
  const no: [string, ReturnType<typeof gatewayWith>][] = [
    ['principals', from({ principals: ['cluster-2.local/ns/client/sa/sleeper'] })],
    ['principals of another scheme', from({ principals: ['spiffe://cluster-2.local/ns/client/sa/sleep'] })],
    ['notPrincipals', from({ notPrincipals: ['*/sa/sleep'] })],
    ['namespaces', from({ namespaces: ['clients'] })],
    ['serviceAccounts of the policy’s namespace', from({ serviceAccounts: ['sleep'] })],
    ['ipBlocks is the direct peer', from({ ipBlocks: ['198.51.100.7'] })],
    ['one of one source', from({ principals: ['*'], ipBlocks: ['10.0.0.8'] })],
    ['ports', gatewayWith(policy({ rules: [{ to: [{ operation: { ports: ['9080'] } }] }] }))],
    ['connection.sni', when('connection.sni', ['productpage'])],
    ['connection.sni notValues', when('connection.sni', [SNI], 'notValues')],
  ]
  for (const [name, it] of no) t.notOk(allowed(it), name)
})

t.test('cluster.local in a principal is our own trust domain, as in Istio', async (t) => {
  const by = (source: object, action = 'ALLOW') =>
    gatewayWith(policy({ action, rules: [{ from: [{ source }] }] }))
  const own = { id: 'spiffe://cluster-1.local/ns/client/sa/sleep' }
  // A peer whose trust domain is called just that; the reachability of this world does not let it in, so that is left aside.
  const named = { id: 'spiffe://cluster.local/ns/client/sa/sleep' }
  const principals = ['cluster.local/ns/client/sa/sleep']
  const said = (it: ReturnType<typeof gatewayWith>, over: Partial<Caller>) => it.authorize(over).allowed
  t.ok(said(by({ principals }), own))
  t.notOk(said(by({ principals }), named), 'nobody is let in who was not meant')
  t.notOk(said(by({ principals }, 'DENY'), own))
  t.notOk(said(by({ principals }, 'DENY'), named))
  t.notOk(said(by({ notPrincipals: principals }), own))
  t.notOk(said(by({ notPrincipals: principals }), named))
  t.ok(said(by({ notPrincipals: principals }, 'DENY'), own))
  t.notOk(said(by({ notPrincipals: principals }, 'DENY'), named))
})

t.test('what only HTTP has: an ALLOW rule with it allows nothing, a DENY rule does without it', async (t) => {
  const get = { to: [{ operation: { methods: ['GET'], ports: ['15443'] } }] }
  const allow = gatewayWith(policy({ rules: [get] }))
  t.notOk(allowed(allow))
  const said = ({ model }: ReturnType<typeof gatewayWith>) =>
    model.conditions.find(({ object }) => object === 'AuthorizationPolicy/bookinfo/p')
  t.match(said(allow), {
    status: false,
    reason: 'UnsupportedField',
    message: 'spec.rules[0]: a gateway of TCP cannot tell methods; this rule allows nothing',
  })
  const deny = gatewayWith(policy({ action: 'DENY', rules: [get] }))
  t.notOk(allowed(deny))
  t.ok(allowed(deny, { port: 443 }))
  t.match(said(deny)?.message, /this rule denies without it/)
  const claims = { when: [{ key: 'request.auth.claims[iss]', values: ['x'] }] }
  t.notOk(
    allowed(gatewayWith(policy({ rules: [claims, { from: [{ source: { requestPrincipals: ['*'] } }] }] }))),
  )
  t.ok(allowed(gatewayWith(policy({ rules: [claims, {}] }))), 'another rule still counts')
})

t.test(
  'which policies are meant: by namespace, labels and the root namespace; AUDIT and CUSTOM',
  async (t) => {
    const denyAll = { action: 'DENY', rules: [{}] }
    const hits = (spec: object, namespace?: string) =>
      !allowed(gatewayWith(policy({ ...denyAll, ...spec }, 'p', namespace)))
    t.ok(hits({}))
    t.ok(hits({ selector: { matchLabels: { app: 'eastwest-gateway' } } }))
    t.notOk(hits({ selector: { matchLabels: { app: 'productpage' } } }))
    t.ok(hits({ selector: {} }), 'an empty selector is for all')
    t.ok(hits({ selector: { matchLabels: {} } }))
    t.notOk(hits({}, 'elsewhere'))
    t.ok(hits({}, 'istio-system'))
    t.notOk(hits({ targetRefs: [{ kind: 'Gateway', name: 'x' }] }))
    t.ok(hits({ targetRefs: [] }), 'an empty list is attached to nothing, and so is for all')
    t.notOk(hits({ action: 'AUDIT' }))
    const custom = gatewayWith(
      policy({ action: 'CUSTOM', rules: [{ from: [{ source: { namespaces: ['client'] } }] }] }),
    )
    t.notOk(allowed(custom), 'nobody can be asked')
    t.ok(allowed(custom, { id: 'spiffe://cluster-2.local/ns/x/sa/sleep' }))
  },
)

t.test(
  'pods with different labels: what keeps out of one keeps out of all, what lets in has to be for all',
  async (t) => {
    const pod = (name: string, labels: object) =>
      yamlOf({
        apiVersion: 'v1',
        kind: 'Pod',
        metadata: { name, namespace: 'bookinfo', labels: { app: 'eastwest-gateway', ...labels } },
        spec: { containers: [{ name: 'c' }] },
      })
    const pods =
      pod('a', { istio: 'eastwest', track: 'stable' }) + pod('b', { istio: 'eastwest', track: 'canary' })
    const by = (label: object, spec: object, name?: string) =>
      policy({ selector: { matchLabels: label }, rules: [{}], ...spec }, name)
    const denied = (label: object) => !allowed(gatewayWith(pods, by(label, { action: 'DENY' })))
    t.ok(denied({ istio: 'eastwest' }), 'a label that no template is known to have')
    t.ok(denied({ track: 'canary' }))
    t.notOk(denied({ track: 'other' }))
    const sleep = { rules: [{ from: [{ source: { principals: ['cluster-2.local/ns/client/sa/sleep'] } }] }] }
    const canary = by({ track: 'canary' }, {}, 'canary')
    t.notOk(
      allowed(gatewayWith(pods, by({ track: 'canary' }, sleep)), other),
      'an ALLOW alone lets nobody else in',
    )
    t.notOk(
      allowed(gatewayWith(pods, by({ istio: 'eastwest' }, sleep), canary), other),
      'and none adds to another',
    )
  },
)

t.test('where nobody’s id is known a rule about ids allows nothing, and denies without asking', async (t) => {
  const pods = ['10.0.1.10:8080']
  const annotations = { 'isthmus.io/mode': 'passthrough' }
  const passing = base.replace(
    service({ name: 'productpage', pods }),
    service({ name: 'productpage', pods, annotations }),
  )
  const verdict = (spec: object, over: Partial<Caller> = {}) => {
    const model = modelOf(passing + policy(spec))
    const options = {
      bind: { address: '0.0.0.0', port: 15443 },
      bundles,
      secrets: true,
      credentialFile: '',
      issuers: true,
    }
    const found = gatewayResources(model, model.gateways[0], options)
      .snapshot()
      .get(TYPE.listener)
      ?.get('eastwest')
    const accepted = found && acceptListener(found)
    const chain =
      accepted?.ok === true ? accepted.value.chains.find(({ mode }) => mode === 'passthrough') : undefined
    if (chain === undefined) throw new Error('no passthrough chain')
    const { id: _, ...unverified } = { ...CALLER, ...over }
    return compileRbac(chain.rbac).judge({ ...unverified, id: undefined }).allowed
  }
  const ids = { principals: ['*'] }
  const here = { ipBlocks: ['10.0.0.0/8'] }
  t.ok(verdict({ rules: [{ from: [{ source: here }] }] }))
  t.notOk(verdict({ rules: [{ from: [{ source: here }] }] }, { directRemoteIp: '11.0.0.1' }))
  t.notOk(verdict({ rules: [{ from: [{ source: ids }] }] }))
  t.notOk(verdict({ rules: [{ from: [{ source: { notPrincipals: ['x'] } }] }] }))
  t.notOk(verdict({ action: 'DENY', rules: [{ from: [{ source: { ...ids, ...here } }] }] }))
  t.ok(
    verdict(
      { action: 'DENY', rules: [{ from: [{ source: { ...ids, ...here } }] }] },
      { directRemoteIp: '11.0.0.1' },
    ),
  )
})

t.test('each mistake is named by its field', async (t) => {
  const wrong: [object, RegExp][] = [
    [{ action: 'REJECT' }, /spec.action.*ALLOW, DENY, AUDIT, CUSTOM/],
    [
      { rules: [{ from: [{ source: { principal: ['x'] } }] }] },
      /rules\[0\].from\[0\].source.principal.*not a field/,
    ],
    [{ rules: [{ from: [{ source: { ipBlocks: ['x'] } }] }] }, /ipBlocks\[0\].*an address or a range/],
    [{ rules: [{ from: [{ source: {} }] }] }, /from\[0\].source.*an empty one/],
    [{ rules: [{ from: [{ source: { principals: [] } }] }] }, /principals.*an empty one/],
    // What a template leaves where its values are empty must not come to mean everybody.
    [{ rules: [{ from: [{ source: { principals: null } }] }] }, /source.principals.*nothing/],
    [{ rules: [{ from: [{ source: { principals: null, namespaces: ['x'] } }] }] }, /principals.*nothing/],
    [{ rules: [{ from: [] }] }, /rules\[0\].from.*an empty one/],
    [{ rules: [{ from: null }] }, /rules\[0\].from.*nothing/],
    [{ rules: [{ to: [] }] }, /rules\[0\].to.*an empty one/],
    [{ rules: [{ to: [{ operation: { ports: null } }] }] }, /operation.ports.*nothing/],
    [{ rules: [{ when: [] }] }, /rules\[0\].when.*an empty one/],
    [{ rules: [null] }, /rules\[0\].*expected a rule/],
    [{ rules: [{ to: [{ operation: { ports: ['http'] } }] }] }, /ports\[0\].*a port as text/],
    [{ rules: [{ when: [{ key: 'connection.sni' }] }] }, /when\[0\].values.*neither/],
    [{ rule: [] }, /spec.rule.*not a field/],
  ]
  for (const [spec, message] of wrong) t.throws(() => modelOf(policy(spec)), message)
})
