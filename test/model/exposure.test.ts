import fc from 'fast-check'
import t from 'tap'
import { matchesLabels } from '../../src/model/labels.ts'
import {
  gateway,
  gatewayService,
  manifests,
  modelOf,
  pod,
  said,
  service,
  setting,
  workspace,
} from './build.ts'
import { slowExposure, type World } from './reference.ts'

const host = (name: string, namespace: string) => `${name}.${namespace}.svc.cluster.local`
const EAST = { gateway: 'gw', labels: { app: 'east' } }
const GATEWAY = [gateway('east', 'gw'), gatewayService('east', 'gw')]

const namespace = fc.constantFrom('ns-a', 'ns-b', 'other')
const labels = fc.dictionary(fc.constantFrom('app', 'tier', 'failover'), fc.constantFrom('x', 'y'), {
  maxKeys: 3,
})
const item = fc.record({
  gateway: fc.constantFrom('gw-1', 'gw-2'),
  labels: fc.record({ app: fc.constantFrom('east', 'west', 'east', 'west', 'none') }),
  exposed: fc.array(
    labels.filter((set) => Object.keys(set).length > 0),
    { maxLength: 3 },
  ),
})
const name = fc.constantFrom('w1', 'w2', 'w3')
const world: fc.Arbitrary<World> = fc.record({
  cluster: fc.constant('c1'),
  services: fc.uniqueArray(fc.record({ name: fc.constantFrom('s1', 's2', 's3'), namespace, labels }), {
    minLength: 2,
    maxLength: 6,
    selector: (each) => `${each.namespace}/${each.name}`,
  }),
  workspaces: fc.uniqueArray(
    fc.record({
      name,
      names: fc.array(
        fc.constantFrom('*/ns-a', 'c1/ns-b', 'c1/*', 'c2/*', '*/ns*', 'c1/ns-*', '*/*', 'c2/ns-a', '*/o*'),
        {
          minLength: 1,
          maxLength: 2,
        },
      ),
    }),
    { minLength: 1, maxLength: 3, selector: (each) => each.name },
  ),
  settings: fc.uniqueArray(
    fc.record({
      name: fc.constantFrom('a', 'b'),
      workspace: name,
      items: fc.array(item, { minLength: 1, maxLength: 3 }),
    }),
    { minLength: 2, maxLength: 5, selector: (each) => `${each.workspace}/${each.name}` },
  ),
  gateways: fc.uniqueArray(
    fc.record({ name: fc.constantFrom('east', 'west'), namespace: fc.constantFrom('gw-1', 'gw-2') }),
    {
      minLength: 1,
      maxLength: 4,
      selector: (each) => `${each.namespace}/${each.name}`,
    },
  ),
})

t.test('as the slow reference, for any workspaces, settings, labels and gateways', async () => {
  let exposed = 0
  fc.assert(
    fc.property(world, (world) => {
      const model = modelOf(
        manifests(
          ...world.services.map((each) => service(each.name, each.namespace, { labels: each.labels })),
          ...world.workspaces.map((each) => workspace(each.name, ...each.names)),
          ...world.settings.map((each) => setting(each.name, each.workspace, ...each.items)),
          ...world.gateways.map((each) => gateway(each.name, each.namespace)),
        ),
      )
      return world.services.every((each) => {
        const exposure = model.exposures.get(host(each.name, each.namespace))
        const expected = slowExposure(world, each)
        if (expected !== undefined) exposed++
        return (
          exposure !== undefined &&
          exposure.decision.reason !== '' &&
          exposure.decision.allowed === (expected !== undefined) &&
          exposure.gateway === expected?.gateway &&
          (expected === undefined || exposure.rule === expected.rule)
        )
      })
    }),
    { seed: 4, numRuns: 300 },
  )
  t.ok(exposed > 20, `the worlds are not all closed (${exposed} exposed services)`)
})

t.test('every decision names the object and field that made it, and what to change', async (t) => {
  const model = modelOf(
    manifests(
      ...GATEWAY,
      workspace('w', 'c1/a'),
      setting('s', 'w', { ...EAST, exposed: [{ failover: 'enable' }, { app: 'details', tier: 'x' }] }),
      service('open', 'a', { labels: { app: 'details', tier: 'x' } }),
      service('half', 'a', { labels: { app: 'details' } }),
      service('alien', 'b'),
    ),
  )
  const of = (name: string, namespace: string) => model.exposures.get(host(name, namespace))
  t.match(of('open', 'a'), {
    decision: {
      allowed: true,
      reason:
        'WorkspaceSetting/acme/eng/w/s spec.defaultEastWestGatewaySettings[0].exposedServices[1] matches app=details,tier=x',
    },
    gateway: 'gw/east',
    rule: 'w/s[0]',
  })
  t.match(of('half', 'a'), {
    decision: { allowed: false, reason: /exposedServices match its labels app=details$/ },
    gateway: undefined,
    fix: /^Service\/a\/half metadata.labels/,
  })
  t.match(of('alien', 'b'), {
    decision: { allowed: false, reason: 'no Workspace selects namespace c1/b' },
    fix: /namespaceSelector.names: add "c1\/b"/,
  })
})

t.test('the first item that selects a service decides it, even without a gateway', async (t) => {
  const model = modelOf(
    manifests(
      ...GATEWAY,
      workspace('w', '*/a'),
      setting('s', 'w', { gateway: 'gw', labels: { app: 'nobody' }, exposed: [{ x: '1' }] }, EAST),
      service('one', 'a', { labels: { x: '1' } }),
      service('two', 'a'),
    ),
  )
  t.match(model.exposures.get(host('one', 'a')), {
    decision: { allowed: false, reason: /matches no gateway pods in namespace "gw"/ },
    rule: 'w/s[0]',
  })
  t.match(model.exposures.get(host('two', 'a')), { decision: { allowed: true }, rule: 'w/s[1]' })
  t.match(
    said(model, 'WorkspaceSetting/acme/eng/w/s').join('\n'),
    /ResolvedRefs=False NoMatchingPods: .*\[0\]\.workloadSelector app=nobody matches no gateway pods in namespace "gw"; it exposes nothing/,
  )
})

t.test('one setting per workspace, one workspace per namespace: the first by name', async (t) => {
  const model = modelOf(
    manifests(
      ...GATEWAY,
      workspace('w2', '*/a', '*/b'),
      workspace('w1', '*/a'),
      setting('z', 'w1', EAST),
      setting('y', 'w1'),
      setting('s', 'w2', EAST),
      service('one', 'a'),
      service('two', 'b'),
    ),
  )
  t.match(model.exposures.get(host('one', 'a')), {
    decision: { allowed: false, reason: /w1\/y .* is empty/ },
  })
  t.match(model.exposures.get(host('two', 'b')), { decision: { allowed: true }, rule: 'w2/s[0]' })
  t.match(said(model, 'WorkspaceSetting/acme/eng/w1/z'), [
    'Accepted=False Conflicted: metadata.workspace: a Workspace has one setting, and WorkspaceSetting/acme/eng/w1/y is in force for "w1"',
  ])
  t.match(
    said(model, 'Workspace/acme/eng/w2').join('\n'),
    /NamespaceConflict: .*namespace "a" already belongs to Workspace\/acme\/eng\/w1/,
  )
})

t.test('a reference to nothing is said', async (t) => {
  const model = modelOf(
    manifests(
      ...GATEWAY,
      workspace('w', '*/a'),
      workspace('empty', 'c2/*'),
      setting('s', 'w', { ...EAST, exposed: [{ app: 'typo' }] }),
      setting('lost', 'nowhere', EAST),
      service('one', 'a', { labels: { app: 'one' } }),
    ),
  )
  t.match(said(model, 'WorkspaceSetting/acme/eng/nowhere/lost'), [
    /ResolvedRefs=False NoWorkspace: metadata.workspace: there is no Workspace "nowhere"/,
  ])
  t.match(
    said(model, 'Workspace/acme/eng/empty').join('\n'),
    /NoMatchingNamespaces: .*c2\/\* selects no namespace of c1/,
  )
  t.match(
    said(model, 'WorkspaceSetting/acme/eng/w/s').join('\n'),
    /NoMatchingServices: .*exposedServices\[0\].serviceLabels: app=typo matches no Service/,
  )
})

t.test('an empty selector matches nothing rather than everything', async (t) => {
  t.notOk(matchesLabels({}, { app: 'x' }))
  t.notOk(matchesLabels({ constructor: 'x' }, {}), 'and a label is never found on the prototype')
})

t.test('a gateway does not expose its own Service', async (t) => {
  const model = modelOf(
    manifests(
      gateway('east', 'a'),
      gatewayService('east', 'a'),
      workspace('w', '*/a'),
      setting('s', 'w', { gateway: 'a', labels: { app: 'east' } }),
      service('one', 'a'),
    ),
  )
  t.equal(model.exposures.get(host('one', 'a'))?.decision.allowed, true)
  t.match(model.exposures.get(host('east', 'a')), {
    decision: { allowed: false, reason: /the Service of gateway a\/east/ },
  })
})

t.test('two gateways for one selector: the first by name serves', async (t) => {
  const model = modelOf(
    manifests(
      workspace('w', '*/a'),
      setting('s', 'w', { gateway: 'gw', labels: { role: 'ew' } }),
      service('one', 'a'),
      pod('p1', 'gw', { app: 'zulu', role: 'ew' }),
      pod('p2', 'gw', { app: 'alpha', role: 'ew' }),
    ),
  )
  t.equal(model.exposures.get(host('one', 'a'))?.gateway, 'gw/alpha')
  t.match(
    said(model, 'WorkspaceSetting/acme/eng/w/s').join('\n'),
    /SeveralGateways: .*workloadSelector: expected one gateway, found 2: alpha serves, zulu not/,
  )
})
