import fc from 'fast-check'
import t from 'tap'
import { clusterObject, manifests, modelOf, organization, said } from './build.ts'
import { slowReachable } from './reference.ts'

t.test('as the slow reference, for any networks and rules', async () => {
  const network = fc.constantFrom('', 'vpc-1', 'vpc-2', 'vpc-3', 'constructor')
  const named = fc.constantFrom('vpc-1', 'vpc-2', 'vpc-3', 'constructor')
  const rules = fc.dictionary(
    named,
    fc.array(named, { maxLength: 3 }).map((names) => names.join(', ')),
    { maxKeys: 3 },
  )
  fc.assert(
    fc.property(fc.option(rules, { nil: undefined }), network, network, (rules, from, to) => {
      const decision = modelOf(manifests(organization(rules))).reachable(from, to)
      return decision.allowed === slowReachable(rules, from, to) && decision.reason.length > 0
    }),
    { seed: 9, numRuns: 150 },
  )
})

t.test('directed, the same network always, unnamed networks are one', async (t) => {
  const { reachable } = modelOf(manifests(organization({ 'vpc-1': 'vpc-2, vpc-3' })))
  t.ok(reachable('vpc-1', 'vpc-2').allowed)
  t.ok(reachable('vpc-1', 'vpc-3').allowed)
  t.notOk(reachable('vpc-2', 'vpc-1').allowed)
  t.notOk(reachable('vpc-2', 'vpc-3').allowed, 'not transitive')
  t.ok(reachable('vpc-9', 'vpc-9').allowed)
  t.ok(reachable('', '').allowed)
  t.notOk(reachable('', 'vpc-1').allowed)
  t.equal(
    reachable('vpc-1', 'vpc-2').reason,
    'OrganizationSetting/acme/default spec.networkSettings.networkReachability["vpc-1"] lists "vpc-2"',
  )
  t.match(reachable('vpc-2', 'vpc-1').reason, 'has no entry for network "vpc-2"')
})

t.test('without rules only the same network is reachable', async (t) => {
  for (const text of ['', manifests(organization(undefined))]) {
    const { reachable } = modelOf(text)
    t.ok(reachable('', '').allowed)
    t.ok(reachable('vpc-1', 'vpc-1').allowed)
    t.notOk(reachable('vpc-1', 'vpc-2').allowed)
  }
})

t.test('the first setting by name counts, and a network that nobody has is said', async (t) => {
  const model = modelOf(
    manifests(
      clusterObject('c1', 'vpc-1'),
      clusterObject('c2', 'vpc-2'),
      organization({ 'vpc-2': 'vpc-1' }, 'b'),
      organization({ 'vpc-1': 'vcp-2' }, 'a'),
    ),
  )
  t.notOk(model.reachable('vpc-2', 'vpc-1').allowed)
  t.match(said(model, 'OrganizationSetting/acme/b'), [
    'Accepted=False Conflicted: there is one OrganizationSetting per cluster: OrganizationSetting/acme/a is in force',
  ])
  t.match(
    said(model, 'OrganizationSetting/acme/a')[1],
    'ResolvedRefs=False UnknownNetwork: spec.networkSettings.networkReachability: no Cluster has network "vcp-2"',
  )
})
