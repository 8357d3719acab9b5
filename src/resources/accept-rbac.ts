import { isIP, isIPv6 } from 'node:net'
import { fromBinary } from '@bufbuild/protobuf'
import { BinaryReader, WireType } from '@bufbuild/protobuf/wire'
import type { Any } from '@bufbuild/protobuf/wkt'
import type { CidrRange } from '../xds/gen/envoy/config/core/v3/address_pb.js'
import {
  type Permission,
  type Principal,
  type RBAC,
  RBAC_Action,
} from '../xds/gen/envoy/config/rbac/v3/rbac_pb.js'
import { RBACSchema } from '../xds/gen/envoy/extensions/filters/network/rbac/v3/rbac_pb.js'
import {
  SubjectAltNameMatcher_SanType,
  SubjectAltNameMatcherSchema,
} from '../xds/gen/envoy/extensions/transport_sockets/tls/v3/common_pb.js'
import type { AcceptContext } from './accept-context.ts'
import { readStringMatch } from './accept-match.ts'
import type { AddressRange, PermissionRule, PrincipalRule, RbacConfig, RbacRules } from './accept-types.ts'
import { ISSUER_TYPE, readIssuers } from './issuer-principal.ts'
import { MTLS_AUTHENTICATED_TYPE, readCustomPrincipal } from './newer-envoy.ts'

/** `Principal.custom`, younger than our generated code. */
const CUSTOM_PRINCIPAL = 14
// Fields of `mtls_authenticated.v3.Config`.
const SAN_MATCHER = 1
const ANY_VALIDATED = 2

// The rules themselves are walked by the readers below, which know the recursive messages.
const RULES_FIELDS = { action: true, policies: { permissions: true, principals: true } } as const
export const RBAC_FIELDS = {
  stat_prefix: true,
  // Ours judges open connections again at every change, whatever is asked for.
  enforcement_type: true,
  rules: RULES_FIELDS,
  shadow_rules: RULES_FIELDS,
  // Names of Envoy's counters; ours go by policy.
  shadow_rules_stat_prefix: true,
} as const

/** Network filter `envoy.filters.network.rbac`, called `name` in its chain. */
export function readRbac(ctx: AcceptContext, any: Any, name: string, path: string): RbacConfig | undefined {
  const message = ctx.unpack(any, RBACSchema, RBAC_FIELDS, path)
  if (message === undefined) return undefined
  if (message.rules === undefined && message.shadowRules === undefined) {
    ctx.refuse(
      `${path}.rules`,
      'expected rules or shadow_rules: without them this filter would let everyone through',
    )
    return undefined
  }
  return {
    name,
    rules: message.rules && readRules(ctx, message.rules, `${path}.rules`),
    shadowRules: message.shadowRules && readRules(ctx, message.shadowRules, `${path}.shadow_rules`),
  }
}

function readRules(ctx: AcceptContext, message: RBAC, path: string): RbacRules {
  // LOG lets everyone through and sets metadata that nothing here reads.
  if (message.action === RBAC_Action.LOG) ctx.refuse(`${path}.action`, 'expected ALLOW or DENY, found LOG')
  const policies = Object.entries(message.policies).map(([name, policy]) => {
    const at = `${path}.policies["${name}"]`
    if (policy.permissions.length === 0) ctx.refuse(`${at}.permissions`, 'expected at least one')
    if (policy.principals.length === 0) ctx.refuse(`${at}.principals`, 'expected at least one')
    return {
      name,
      permissions: policy.permissions.map((rule, i) => readPermission(ctx, rule, `${at}.permissions[${i}]`)),
      principals: policy.principals.map((id, i) => readPrincipal(ctx, id, `${at}.principals[${i}]`)),
    }
  })
  policies.sort((a, b) => (a.name < b.name ? -1 : 1))
  return { action: message.action === RBAC_Action.DENY ? 'DENY' : 'ALLOW', policies }
}

// A rule that was refused never takes effect; `not any` is what stands in for it meanwhile.
const NOBODY = { kind: 'not', rule: { kind: 'any' } } as const
const NOWHERE: AddressRange = { address: '255.255.255.255', prefixLength: 32 }

function readPermission(ctx: AcceptContext, message: Permission, path: string): PermissionRule {
  refuseUnknown(ctx, message, path)
  const rule = message.rule
  switch (rule.case) {
    case 'any':
      return rule.value ? { kind: 'any' } : refused(ctx, `${path}.any`, 'expected true')
    case 'andRules':
    case 'orRules': {
      const at = `${path}.${rule.case === 'andRules' ? 'and_rules' : 'or_rules'}.rules`
      if (rule.value.rules.length === 0) ctx.refuse(at, 'expected at least one')
      const rules = rule.value.rules.map((inner, i) => readPermission(ctx, inner, `${at}[${i}]`))
      return { kind: rule.case === 'andRules' ? 'and' : 'or', rules }
    }
    case 'notRule':
      return { kind: 'not', rule: readPermission(ctx, rule.value, `${path}.not_rule`) }
    case 'requestedServerName':
      return { kind: 'serverName', match: readStringMatch(ctx, rule.value, `${path}.requested_server_name`) }
    case 'destinationPort':
      return { kind: 'port', from: rule.value, to: rule.value }
    case 'destinationPortRange':
      return { kind: 'port', from: rule.value.start, to: rule.value.end - 1 }
    case 'destinationIp':
      return { kind: 'destinationIp', range: readCidr(ctx, rule.value, `${path}.destination_ip`) }
    case undefined:
      return refused(ctx, path, 'expected a rule')
    default:
      return refused(ctx, `${path}.${snake(rule.case)}`, 'not supported')
  }
}

function readPrincipal(ctx: AcceptContext, message: Principal, path: string): PrincipalRule {
  const id = message.identifier
  if (id.case !== undefined) refuseUnknown(ctx, message, path)
  switch (id.case) {
    case 'any':
      return id.value ? { kind: 'any' } : refused(ctx, `${path}.any`, 'expected true')
    case 'andIds':
    case 'orIds': {
      const at = `${path}.${id.case === 'andIds' ? 'and_ids' : 'or_ids'}.ids`
      if (id.value.ids.length === 0) ctx.refuse(at, 'expected at least one')
      const rules = id.value.ids.map((inner, i) => readPrincipal(ctx, inner, `${at}[${i}]`))
      return { kind: id.case === 'andIds' ? 'and' : 'or', rules }
    }
    case 'notId':
      return { kind: 'not', rule: readPrincipal(ctx, id.value, `${path}.not_id`) }
    case 'authenticated': {
      const name = id.value.principalName
      const match =
        name === undefined ? undefined : readStringMatch(ctx, name, `${path}.authenticated.principal_name`)
      return { kind: 'id', match }
    }
    case 'sourceIp':
    case 'directRemoteIp':
    case 'remoteIp':
      return {
        kind: 'remoteIp',
        direct: id.case === 'directRemoteIp',
        range: readCidr(ctx, id.value, `${path}.${snake(id.case)}`),
      }
    case undefined:
      return readCustom(ctx, message, path)
    default:
      return refused(ctx, `${path}.${snake(id.case)}`, 'not supported')
  }
}

function readCidr(ctx: AcceptContext, range: CidrRange, path: string): AddressRange {
  const bits = isIPv6(range.addressPrefix) ? 128 : 32
  if (isIP(range.addressPrefix) === 0)
    ctx.refuse(`${path}.address_prefix`, `expected an IP address, found "${range.addressPrefix}"`)
  const prefixLength = range.prefixLen ?? 0
  if (prefixLength > bits) {
    ctx.refuse(`${path}.prefix_len`, `expected at most ${bits}, found ${prefixLength}`)
    return NOWHERE
  }
  return isIP(range.addressPrefix) === 0 ? NOWHERE : { address: range.addressPrefix, prefixLength }
}

/**
 * Principal `custom` with `mtls_authenticated`: the verified URI SAN, the one form that Envoy too reads safely; or with our own,
 * which knows the caller's issuer.
 */
function readCustom(ctx: AcceptContext, message: Principal, path: string): PrincipalRule {
  const other = message.$unknown?.find(({ no }) => no !== CUSTOM_PRINCIPAL)
  if (other !== undefined) return refused(ctx, `${path}.field number ${other.no}`, 'not supported')
  try {
    const custom = readCustomPrincipal(message)
    if (custom === undefined) return refused(ctx, path, 'expected an identifier')
    const at = `${path}.custom.typed_config`
    if (custom.config?.typeUrl !== ISSUER_TYPE) return readMtlsAuthenticated(ctx, custom.config, at)
    const { keys, error } = readIssuers(custom.config)
    return error === undefined ? { kind: 'issuer', keys } : refused(ctx, at, error)
  } catch {
    return refused(ctx, `${path}.custom`, 'does not decode as envoy.config.core.v3.TypedExtensionConfig')
  }
}

/** Strict, since a field that is overlooked here would let somebody in. */
function readMtlsAuthenticated(ctx: AcceptContext, any: Any | undefined, path: string): PrincipalRule {
  if (any?.typeUrl !== MTLS_AUTHENTICATED_TYPE) {
    return refused(ctx, path, `expected ${MTLS_AUTHENTICATED_TYPE}, found ${any?.typeUrl ?? 'nothing'}`)
  }
  const reader = new BinaryReader(any.value)
  let rule: PrincipalRule | undefined
  while (reader.pos < reader.len) {
    const [no, wireType] = reader.tag()
    if (no === SAN_MATCHER && wireType === WireType.LengthDelimited) {
      const san = fromBinary(SubjectAltNameMatcherSchema, reader.bytes())
      if (san.sanType !== SubjectAltNameMatcher_SanType.URI)
        ctx.refuse(`${path}.san_matcher.san_type`, 'expected URI')
      rule = { kind: 'id', match: readStringMatch(ctx, san.matcher, `${path}.san_matcher.matcher`) }
    } else if (no === ANY_VALIDATED && wireType === WireType.Varint) {
      rule = reader.bool() ? { kind: 'id', match: undefined } : rule
    } else {
      return refused(ctx, `${path}.field number ${no}`, 'not supported')
    }
  }
  return rule ?? refused(ctx, path, 'expected san_matcher or any_validated_client_certificate')
}

function refuseUnknown(ctx: AcceptContext, message: Permission | Principal, path: string): void {
  const unknown = message.$unknown?.[0]
  if (unknown !== undefined) ctx.refuse(`${path}.field number ${unknown.no}`, 'not supported')
}

function refused(ctx: AcceptContext, path: string, message: string): typeof NOBODY {
  ctx.refuse(path, message)
  return NOBODY
}

const snake = (name: string): string => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)
