import { isIPv4, isIPv6 } from 'node:net'
import fc from 'fast-check'
import t from 'tap'
import { type Caller, compileRbac } from '../../src/proxy/rbac.ts'
import {
  type AddressRange,
  type PermissionRule,
  type PrincipalRule,
  type RbacConfig,
  type RbacRules,
  REACHABILITY_FILTER,
  type StringMatch,
} from '../../src/resources/accept-types.ts'

type Truth = 'yes' | 'no' | 'unknown'

/** The slow second implementation: three truth values all the way, and unknown is settled once, at the end. */
function slowPermission(rule: PermissionRule, caller: Caller): Truth {
  switch (rule.kind) {
    case 'any':
      return 'yes'
    case 'and':
      return all(rule.rules.map((inner) => slowPermission(inner, caller)))
    case 'or':
      return some(rule.rules.map((inner) => slowPermission(inner, caller)))
    case 'not':
      return not(slowPermission(rule.rule, caller))
    case 'serverName':
      return truth(
        [caller.serverName, ...caller.otherNames].filter((name) => slowText(rule.match, name)).length > 0,
      )
    case 'port':
      return truth(rule.from <= caller.port && caller.port <= rule.to)
    case 'destinationIp':
      return slowWithin(rule.range, caller.destinationIp)
  }
}

function slowPrincipal(rule: PrincipalRule, caller: Caller): Truth {
  switch (rule.kind) {
    case 'any':
      return 'yes'
    case 'and':
      return all(rule.rules.map((inner) => slowPrincipal(inner, caller)))
    case 'or':
      return some(rule.rules.map((inner) => slowPrincipal(inner, caller)))
    case 'not':
      return not(slowPrincipal(rule.rule, caller))
    case 'id':
      if (caller.id === undefined) return 'unknown'
      return truth(rule.match === undefined || slowText(rule.match, caller.id))
    case 'remoteIp':
      return slowWithin(rule.range, rule.direct ? caller.directRemoteIp : caller.remoteIp)
    default:
      throw new Error('a kind that this test does not know')
  }
}

const truth = (value: boolean): Truth => (value ? 'yes' : 'no')
const not = (value: Truth): Truth => (value === 'unknown' ? value : truth(value === 'no'))
const all = (values: readonly Truth[]): Truth =>
  values.includes('no') ? 'no' : values.includes('unknown') ? 'unknown' : 'yes'
const some = (values: readonly Truth[]): Truth =>
  values.includes('yes') ? 'yes' : values.includes('unknown') ? 'unknown' : 'no'

function slowText({ kind, value, ignoreCase }: StringMatch, text: string): boolean {
  const [wanted, found] = ignoreCase ? [value.toLowerCase(), text.toLowerCase()] : [value, text]
  if (kind === 'exact') return found === wanted
  const places = Array.from({ length: found.length + 1 }, (_, at) => at).filter(
    (at) => found.slice(at, at + wanted.length) === wanted,
  )
  if (kind === 'prefix') return places.includes(0)
  return kind === 'contains' ? places.length > 0 : places.includes(found.length - wanted.length)
}

/** An address as its bits; undefined for none. */
function bitsOf(ip: string): string | undefined {
  const byte = (text: string, radix: number, width: number) =>
    Number.parseInt(text, radix).toString(2).padStart(width, '0')
  if (isIPv4(ip))
    return ip
      .split('.')
      .map((part) => byte(part, 10, 8))
      .join('')
  if (!isIPv6(ip)) return undefined
  const [head = '', tail] = ip.split('::')
  const left = head === '' ? [] : head.split(':')
  const right = tail === undefined || tail === '' ? [] : tail.split(':')
  const middle = tail === undefined ? [] : Array.from({ length: 8 - left.length - right.length }, () => '0')
  return [...left, ...middle, ...right].map((part) => byte(part, 16, 16)).join('')
}

function slowWithin({ address, prefixLength }: AddressRange, ip: string): Truth {
  const [range, found] = [bitsOf(address), bitsOf(ip)]
  if (found === undefined) return 'unknown'
  return truth(
    range?.length === found.length && range.slice(0, prefixLength) === found.slice(0, prefixLength),
  )
}

function slowAllows({ action, policies }: RbacRules, caller: Caller): { allowed: boolean; policy: string } {
  for (const { name, permissions, principals } of [...policies].sort((a, b) => (a.name < b.name ? -1 : 1))) {
    const matches = all([
      some(permissions.map((rule) => slowPermission(rule, caller))),
      some(principals.map((rule) => slowPrincipal(rule, caller))),
    ])
    if (action === 'ALLOW' && matches === 'yes') return { allowed: true, policy: name }
    if (action === 'DENY' && matches !== 'no') return { allowed: false, policy: name }
  }
  return { allowed: action === 'DENY', policy: '' }
}

const texts = fc.constantFrom(
  'spiffe://a.example/',
  'spiffe://a.example/ns/x',
  'spiffe://b.example/ns/x',
  'x.example',
  'X.example',
  'example',
)
const match: fc.Arbitrary<StringMatch> = fc.record({
  kind: fc.constantFrom('exact' as const, 'prefix' as const, 'suffix' as const, 'contains' as const),
  value: texts,
  ignoreCase: fc.boolean(),
})
const addresses = fc.constantFrom('10.0.0.1', '10.0.0.130', '10.1.0.1', 'fd00::1', 'fd00:0:8000::1', '::1')
const range: fc.Arbitrary<AddressRange> = addresses.chain((address) =>
  fc.record({ address: fc.constant(address), prefixLength: fc.nat(isIPv4(address) ? 32 : 128) }),
)
const permission: fc.Arbitrary<PermissionRule> = fc.letrec<{ rule: PermissionRule }>((tie) => ({
  rule: fc.oneof(
    { maxDepth: 3, depthIdentifier: 'permission' },
    fc.constant({ kind: 'any' as const }),
    match.map((each) => ({ kind: 'serverName' as const, match: each })),
    fc.tuple(fc.nat(3), fc.nat(3)).map(([from, to]) => ({ kind: 'port' as const, from, to })),
    range.map((each) => ({ kind: 'destinationIp' as const, range: each })),
    tie('rule').map((rule) => ({ kind: 'not' as const, rule })),
    fc.record({
      kind: fc.constantFrom('and' as const, 'or' as const),
      rules: fc.array(tie('rule'), { minLength: 1, maxLength: 3 }),
    }),
  ),
})).rule
const principal: fc.Arbitrary<PrincipalRule> = fc.letrec<{ rule: PrincipalRule }>((tie) => ({
  rule: fc.oneof(
    { maxDepth: 3, depthIdentifier: 'principal' },
    fc.constant({ kind: 'any' as const }),
    fc.option(match, { nil: undefined }).map((each) => ({ kind: 'id' as const, match: each })),
    fc.record({ kind: fc.constant('remoteIp' as const), direct: fc.boolean(), range }),
    tie('rule').map((rule) => ({ kind: 'not' as const, rule })),
    fc.record({
      kind: fc.constantFrom('and' as const, 'or' as const),
      rules: fc.array(tie('rule'), { minLength: 1, maxLength: 3 }),
    }),
  ),
})).rule
const rules: fc.Arbitrary<RbacRules> = fc.record({
  action: fc.constantFrom('ALLOW' as const, 'DENY' as const),
  policies: fc
    .uniqueArray(
      fc.record({
        name: fc.constantFrom('a', 'b', 'c', 'constructor'),
        permissions: fc.array(permission, { minLength: 1, maxLength: 2 }),
        principals: fc.array(principal, { minLength: 1, maxLength: 2 }),
      }),
      { maxLength: 3, selector: ({ name }) => name },
    )
    .map((policies) => policies.sort((a, b) => (a.name < b.name ? -1 : 1))),
})
const filters = fc.array(
  fc.record({
    name: fc.constantFrom('rbac', REACHABILITY_FILTER),
    rules: fc.option(rules, { nil: undefined }),
    shadowRules: fc.option(rules, { nil: undefined }),
  }),
  { maxLength: 3 },
)
const caller: fc.Arbitrary<Caller> = fc.record({
  id: fc.option(texts, { nil: undefined }),
  serverName: fc.constantFrom('x.example', ''),
  otherNames: fc.array(texts, { maxLength: 2 }),
  remoteIp: fc.oneof(addresses, fc.constant('')),
  directRemoteIp: fc.oneof(addresses, fc.constant('')),
  destinationIp: addresses,
  port: fc.nat(4),
})

t.test('as the slow reference, for any filters and callers', async (t) => {
  let denied = 0
  fc.assert(
    fc.property(filters, caller, (configs: readonly RbacConfig[], who) => {
      const { judge, shadow } = compileRbac(configs)
      const verdict = judge(who)
      const enforced = configs.flatMap((each) =>
        each.rules === undefined ? [] : [{ ...each, rules: each.rules }],
      )
      const refusals = enforced.filter((each) => !slowAllows(each.rules, who).allowed)
      if (verdict.allowed !== (refusals.length === 0)) return false
      if (!verdict.allowed) denied += 1
      // Only where nothing but reachability refuses may an open connection go on for a while.
      const drains = refusals.length > 0 && refusals.every(({ name }) => name === REACHABILITY_FILTER)
      if (verdict.drains !== drains) return false
      const first = refusals.find(({ name }) => drains || name !== REACHABILITY_FILTER)
      if (first !== undefined && verdict.policy !== slowAllows(first.rules, who).policy) return false
      const shadows = configs.flatMap(({ shadowRules }) => (shadowRules === undefined ? [] : [shadowRules]))
      if (shadows.length === 0) return shadow === undefined
      return shadow?.(who).allowed === shadows.every((each) => slowAllows(each, who).allowed)
    }),
    { seed: 11, numRuns: 3_000 },
  )
  t.ok(denied > 300 && denied < 2_900, `${denied} of 3000 denied: both sides are tried`)
})

t.test('to prove less never opens a door', async () => {
  fc.assert(
    fc.property(filters, caller, (configs: readonly RbacConfig[], who) => {
      const { judge } = compileRbac(configs)
      const nobody = judge({ ...who, id: undefined })
      // What a caller without identity may do, every identity may do as well.
      return !nobody.allowed || judge(who).allowed
    }),
    { seed: 12, numRuns: 2_000 },
  )
})
