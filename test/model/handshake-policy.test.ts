// What an AuthorizationPolicy says of one service, and whether a proxy that decides in its handshake can know it: as a slow reference that
// asks the whole policy of each caller.
import fc from 'fast-check'
import t from 'tap'
import { handshakePolicy, policiesFor } from '../../src/model/handshake-policy.ts'
import { selectProtocol, speaksFirst } from '../../src/model/protocol.ts'
import type { GatewayPolicy, GatewayRule } from '../../src/model/types.ts'
import type { AuthorizationClause } from '../../src/objects/types.ts'
import { handshakeCallers } from '../../src/resources/handshake-callers.ts'

t.test('who speaks first, by the protocol that is named', async (t) => {
  for (const name of ['http', 'http2', 'grpc', 'https', 'tls', 'mongo', 'redis'])
    t.equal(speaksFirst(selectProtocol(`${name}-main`, undefined)), 'client', name)
  t.equal(speaksFirst(selectProtocol('http', 'mysql')), 'server', 'appProtocol counts before the name')
  for (const name of ['', 'smtp', 'tcp', 'tcp-ssh'])
    t.equal(speaksFirst(selectProtocol(name, undefined)), 'either')
})

const NAMES = ['outbound_.3306_._.db.bookinfo.svc.cluster.local', 'db.bookinfo']
const DOMAINS = ['one.example', 'two.example']
const IDS = ['one.example', 'two.example', 'three.example'].flatMap((domain) =>
  ['a', 'b'].flatMap((ns) => ['x', 'y'].map((sa) => `${domain}/ns/${ns}/sa/${sa}`)),
)

const clauseOf = (attribute: AuthorizationClause['attribute'], values: fc.Arbitrary<string>) =>
  fc.record({
    attribute: fc.constant(attribute),
    name: fc.constant(''),
    values: fc.uniqueArray(values, { minLength: 1, maxLength: 2 }),
    negated: fc.boolean(),
  })
const source = fc.oneof(
  clauseOf(
    'principal',
    fc.oneof(fc.constantFrom(...IDS), fc.constantFrom('*', 'one.example/*', 'one*', '*/sa/x')),
  ),
  clauseOf('namespace', fc.constantFrom('a', 'b', '*')),
  clauseOf('serviceAccount', fc.constantFrom('x', 'b/y')),
)
const sni = clauseOf(
  'sni',
  fc.constantFrom(...NAMES, 'outbound_.80_._.web.bookinfo.svc.cluster.local', 'outbound*', '*'),
)
const rule: fc.Arbitrary<GatewayRule> = fc.record({
  from: fc.array(fc.array(source, { minLength: 1, maxLength: 2 }), { maxLength: 2 }),
  to: fc.array(fc.array(sni, { minLength: 1, maxLength: 2 }), { maxLength: 2 }),
  when: fc.array(fc.oneof(source, sni), { maxLength: 2 }),
  name: fc.constant('rule'),
  namespace: fc.constant('b'),
})
const policies: fc.Arbitrary<GatewayPolicy[]> = fc.array(
  fc.record({
    name: fc.constant('p'),
    action: fc.constantFrom('ALLOW' as const, 'ALLOW' as const, 'ALLOW' as const, 'DENY' as const),
    rules: fc.array(rule, { maxLength: 2 }),
  }),
  { maxLength: 2 },
)

/** Istio's meaning, read anew for each caller. */
function allows(all: readonly GatewayPolicy[], id: string): boolean {
  const [, ns = '', sa = ''] = /\/ns\/([^/]+)\/sa\/([^/]+)$/.exec(id) ?? []
  const like = (value: string, text: string) =>
    value === '*' ||
    (value.endsWith('*')
      ? text.startsWith(value.slice(0, -1))
      : value.startsWith('*')
        ? text.endsWith(value.slice(1))
        : value === text)
  const one = ({ attribute, values, negated }: AuthorizationClause) => {
    const found = values.some((value) => {
      if (attribute === 'sni') return NAMES.some((name) => like(value, name))
      if (attribute === 'principal') return like(value, id)
      if (attribute === 'namespace') return like(value, ns)
      return (value.includes('/') ? value : `b/${value}`) === `${ns}/${sa}`
    })
    return found !== negated
  }
  const matches = ({ from, to, when }: GatewayRule) =>
    (from.length === 0 || from.some((clauses) => clauses.every(one))) &&
    (to.length === 0 || to.some((clauses) => clauses.every(one))) &&
    when.every(one)
  const some = (action: string) =>
    all.filter((each) => each.action === action).some(({ rules }) => rules.some(matches))
  return !some('DENY') && (!all.some(({ action }) => action === 'ALLOW') || some('ALLOW'))
}

t.test('the handshake lets in exactly whom the policies do, or leaves it to the first byte', async (t) => {
  let decided = 0
  fc.assert(
    fc.property(policies, (all) => {
      const policy = handshakePolicy(policiesFor(all, NAMES))
      if (policy.decides === 'first byte') return true
      decided++
      const { trustDomains, sans } = handshakeCallers(DOMAINS, policy.ids)
      return IDS.every((id) => {
        const uri = `spiffe://${id}`
        const shakes =
          trustDomains.some((domain) => uri.startsWith(`spiffe://${domain}/`)) &&
          sans.some(({ matcher }) => {
            const { case: kind, value } = matcher?.matchPattern ?? {}
            if (typeof value !== 'string') return false
            if (kind === 'exact') return uri === value
            if (kind === 'prefix') return uri.startsWith(value)
            return kind === 'suffix' ? uri.endsWith(value) : uri.includes(value)
          })
        const domain = id.slice(0, id.indexOf('/'))
        return shakes === (DOMAINS.includes(domain) && allows(all, id))
      })
    }),
    { seed: 25, numRuns: 4_000 },
  )
  t.ok(decided > 500, `${decided} times it did decide`)
})

t.test('a trust domain none of whose ids is let in has no bundle in the chain', async (t) => {
  const clause = {
    attribute: 'principal',
    name: '',
    values: ['two.example/ns/a/sa/x'],
    negated: false,
  } as const
  const { trustDomains } = handshakeCallers(DOMAINS, [{ clause, namespace: 'b' }])
  t.strictSame(trustDomains, ['two.example'])
  t.strictSame(handshakeCallers(DOMAINS, []), { trustDomains: [], sans: [] })
})
