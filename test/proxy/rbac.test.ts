import t from 'tap'
import { type Caller, compileRbac } from '../../src/proxy/rbac.ts'
import type {
  PermissionRule,
  PrincipalRule,
  RbacConfig,
  RbacRules,
  StringMatch,
} from '../../src/resources/accept-types.ts'

const exact = (value: string): StringMatch => ({ kind: 'exact', value, ignoreCase: false })
const prefix = (value: string): StringMatch => ({ kind: 'prefix', value, ignoreCase: false })
const id = (match: StringMatch): PrincipalRule => ({ kind: 'id', match })
const ANY = { kind: 'any' } as const

const caller = (over: Partial<Caller> = {}): Caller => ({
  id: 'spiffe://one.example/ns/a/sa/b',
  serverName: 'x.example',
  otherNames: [],
  remoteIp: '10.1.2.3',
  directRemoteIp: '10.9.9.9',
  destinationIp: '10.0.0.1',
  port: 15443,
  ...over,
})

const filter = (
  action: RbacRules['action'],
  permissions: PermissionRule[],
  principals: PrincipalRule[],
  name = 'p',
  filterName = 'rbac',
): RbacConfig => ({
  name: filterName,
  rules: { action, policies: [{ name, permissions, principals }] },
  shadowRules: undefined,
})

const allowed = (config: RbacConfig[], over: Partial<Caller> = {}) =>
  compileRbac(config).judge(caller(over)).allowed

t.test('principals', async (t) => {
  const one = [filter('ALLOW', [ANY], [id(prefix('spiffe://one.example/'))])]
  t.ok(allowed(one))
  t.notOk(allowed(one, { id: 'spiffe://one.example.evil/ns/a/sa/b' }))
  t.notOk(allowed(one, { id: undefined }), 'nobody is not somebody')
  t.notOk(allowed([filter('ALLOW', [ANY], [{ kind: 'id', match: undefined }])], { id: undefined }))
  t.ok(allowed([filter('ALLOW', [ANY], [{ kind: 'id', match: undefined }])]))
  t.notOk(allowed([filter('ALLOW', [ANY], [id(exact('spiffe://ONE.example/ns/a/sa/b'))])]), 'case matters')
  t.ok(
    allowed([filter('ALLOW', [ANY], [id({ ...exact('SPIFFE://one.EXAMPLE/ns/a/sa/b'), ignoreCase: true })])]),
  )
  const both: PrincipalRule = {
    kind: 'and',
    rules: [id(prefix('spiffe://one.example/')), { kind: 'not', rule: id(prefix('spiffe://two.example/')) }],
  }
  t.ok(allowed([filter('ALLOW', [ANY], [both])]))
  t.notOk(allowed([filter('ALLOW', [ANY], [both])], { id: 'spiffe://two.example/x' }))
  t.ok(allowed([filter('ALLOW', [ANY], [{ kind: 'or', rules: [id(exact('no')), ANY] }])]))
})

t.test('issuers', async (t) => {
  const rule: PrincipalRule = { kind: 'issuer', keys: ['aa', 'bb'] }
  t.ok(allowed([filter('ALLOW', [ANY], [rule])], { issuer: 'bb' }))
  t.notOk(allowed([filter('ALLOW', [ANY], [rule])], { issuer: 'cc' }))
  t.notOk(allowed([filter('ALLOW', [ANY], [rule])], { issuer: undefined }), 'not known is not allowed')
  t.notOk(allowed([filter('DENY', [ANY], [rule])], { issuer: undefined }), 'nor is it spared a denial')
  t.notOk(
    allowed([filter('ALLOW', [ANY], [{ kind: 'not', rule }])], { issuer: undefined }),
    'nor turned around',
  )
})

t.test('source addresses', async (t) => {
  const range: PrincipalRule = {
    kind: 'remoteIp',
    direct: false,
    range: { address: '10.1.0.0', prefixLength: 16 },
  }
  t.ok(allowed([filter('ALLOW', [ANY], [range])]))
  t.notOk(allowed([filter('ALLOW', [ANY], [range])], { remoteIp: '10.2.0.1' }))
  t.notOk(allowed([filter('ALLOW', [ANY], [range])], { remoteIp: '' }), 'unknown source')
  t.ok(
    allowed([filter('ALLOW', [ANY], [range])], { remoteIp: '::ffff:10.1.0.9' }),
    'as a dual-stack socket says it',
  )
  t.notOk(allowed([filter('ALLOW', [ANY], [{ ...range, direct: true }])]), 'not the direct peer')
  t.ok(allowed([filter('ALLOW', [ANY], [{ ...range, direct: true }])], { directRemoteIp: '10.1.0.9' }))
  for (const remoteIp of [
    '::ffff:a01:9',
    '0:0:0:0:0:ffff:a01:9',
    '::FFFF:10.1.0.9',
    '0:0:0:0:0:ffff:10.1.0.9',
  ]) {
    t.ok(allowed([filter('ALLOW', [ANY], [range])], { remoteIp }), `${remoteIp} is 10.1.0.9`)
    t.notOk(allowed([filter('DENY', [ANY], [range])], { remoteIp }), `${remoteIp} is 10.1.0.9`)
    const all: PrincipalRule = { kind: 'remoteIp', direct: false, range: { address: '::', prefixLength: 0 } }
    t.notOk(allowed([filter('ALLOW', [ANY], [all])], { remoteIp }), 'and not of IPv6')
  }
  const six: PrincipalRule = {
    kind: 'remoteIp',
    direct: false,
    range: { address: 'fd00::', prefixLength: 8 },
  }
  t.ok(allowed([filter('ALLOW', [ANY], [six])], { remoteIp: 'fd12::1' }))
  t.notOk(allowed([filter('ALLOW', [ANY], [six])]))
})

t.test('a name of the same upstream is as good as the one that was asked for', async (t) => {
  const alias = { serverName: 'x', otherNames: ['x.example'] }
  const named: PermissionRule = { kind: 'serverName', match: exact('x.example') }
  t.notOk(allowed([filter('DENY', [named], [ANY])], alias), 'no way around a DENY')
  t.ok(allowed([filter('ALLOW', [named], [ANY])], alias))
  t.notOk(allowed([filter('ALLOW', [{ kind: 'not', rule: named }], [ANY])], alias))
})

t.test('permissions', async (t) => {
  const name: PermissionRule = { kind: 'serverName', match: exact('x.example') }
  t.ok(allowed([filter('ALLOW', [name], [ANY])]))
  t.notOk(allowed([filter('ALLOW', [name], [ANY])], { serverName: 'y.example' }))
  t.ok(allowed([filter('ALLOW', [{ kind: 'port', from: 15443, to: 15443 }], [ANY])]))
  t.notOk(allowed([filter('ALLOW', [{ kind: 'port', from: 1, to: 15442 }], [ANY])]))
  t.notOk(allowed([filter('ALLOW', [{ kind: 'not', rule: name }], [ANY])]))
  t.ok(allowed([filter('ALLOW', [{ kind: 'and', rules: [name, ANY] }], [ANY])]))
  t.ok(allowed([filter('ALLOW', [{ kind: 'or', rules: [{ kind: 'not', rule: ANY }, name] }], [ANY])]))
})

t.test('actions, several filters, and words', async (t) => {
  const deny = filter('DENY', [ANY], [id(exact('spiffe://one.example/ns/a/sa/b'))], 'no b')
  const allow = filter('ALLOW', [ANY], [ANY], 'all')
  t.notOk(allowed([deny, allow]))
  t.notOk(allowed([allow, deny]), 'any filter may deny')
  t.match(compileRbac([deny, allow]).judge(caller()), {
    policy: 'no b',
    reason: 'policy "no b" denies spiffe://one.example/ns/a/sa/b',
  })
  t.match(compileRbac([deny, allow]).judge(caller({ id: 'spiffe://x/y' })), { allowed: true, policy: 'all' })
  t.match(
    compileRbac([allow, filter('DENY', [ANY], [id(exact('no'))])]).judge(caller()),
    { allowed: true, policy: 'all' },
    'a deny filter that does not match names no rule',
  )
  t.match(
    compileRbac([{ name: 'rbac', rules: { action: 'ALLOW', policies: [] }, shadowRules: undefined }]).judge(
      caller(),
    ),
    {
      allowed: false,
      policy: '',
      reason: /no policy allows .* x\.example/,
    },
  )
  t.ok(allowed([]), 'no filter, no policy')
})
