// Istio's AuthorizationPolicy: security.istio.io. Fields as in istio/api security/v1/authorization_policy.proto.
import { parseIpRange } from '../lib/ip-range.ts'
import { Field, Recorder, type TextRule } from './field.ts'
import { notEmpty, readLabels } from './rules.ts'
import type { RefusedObject } from './store.ts'
import type {
  AuthorizationAttribute,
  AuthorizationClause,
  AuthorizationPolicy,
  AuthorizationRule,
} from './types.ts'

const ipBlock: TextRule = (text) =>
  parseIpRange(text) === undefined ? 'an address or a range such as 10.0.0.0/8' : undefined
const port: TextRule = (text) => {
  const number = Number(text)
  const canonical = Number.isInteger(number) && String(number) === text
  return canonical && number >= 1 && number <= 65_535 ? undefined : 'a port as text, "1" to "65535"'
}

/** Fields that a gateway of TCP knows, by their name in `source` and `operation`. */
const SOURCE: Readonly<Record<string, AuthorizationAttribute>> = {
  principals: 'principal',
  namespaces: 'namespace',
  serviceAccounts: 'serviceAccount',
  ipBlocks: 'ip',
  remoteIpBlocks: 'remoteIp',
}
const OPERATION: Readonly<Record<string, AuthorizationAttribute>> = { ports: 'port' }
/** Fields that only HTTP has. */
const HTTP_SOURCE = ['requestPrincipals']
const HTTP_OPERATION = ['hosts', 'methods', 'paths']
/** Keys of `when`; every other one is of HTTP, or of an Envoy filter that is not there. */
const CONDITION: Readonly<Record<string, AuthorizationAttribute>> = {
  'source.principal': 'principal',
  'source.namespace': 'namespace',
  'source.serviceAccount': 'serviceAccount',
  'source.ip': 'ip',
  'remote.ip': 'remoteIp',
  'destination.ip': 'destinationIp',
  'destination.port': 'port',
  'connection.sni': 'sni',
}
const RULE_OF: Readonly<Partial<Record<AuthorizationAttribute, TextRule>>> = {
  ip: ipBlock,
  remoteIp: ipBlock,
  destinationIp: ipBlock,
  port,
}

export function readAuthorizationPolicy(document: Field): AuthorizationPolicy['spec'] {
  const spec = document.get('spec')
  spec.only(['selector', 'targetRef', 'targetRefs', 'action', 'rules', 'provider'])
  return {
    ...readScope(spec),
    action: spec.get('action').oneOf(['ALLOW', 'DENY', 'AUDIT', 'CUSTOM'], 'ALLOW'),
    rules: spec.get('rules').list(readRule),
  }
}

type PolicyScope = Pick<AuthorizationPolicy['spec'], 'selector' | 'targeted'>

function readScope(spec: Field): PolicyScope {
  const selector = spec.get('selector')
  selector.only(['matchLabels'])
  return {
    selector: selector.present ? readLabels(selector.get('matchLabels')) : undefined,
    targeted: spec.get('targetRef').present || spec.get('targetRefs').list((target) => target).length > 0,
  }
}

/** Whom a refused policy may have been meant for: its namespace's pods, but for what can be read of it beyond doubt. */
export function scopeOfRefused({ doc, problems }: RefusedObject): PolicyScope {
  const doubtful = problems.some(
    ({ field }) => field === '' || field === 'spec' || /^spec\.(selector|targetRefs?)\b/.test(field),
  )
  return doubtful
    ? { selector: undefined, targeted: false }
    : readScope(new Field(doc, '', new Recorder('')).get('spec'))
}

/** `{}` matches everything; a part that is there and empty, as a template leaves it, must not come to mean the same. */
function readRule(rule: Field): AuthorizationRule {
  if (!rule.present) rule.wrong('expected a rule, found nothing; {} matches everything')
  rule.only(['from', 'to', 'when'])
  for (const [, part] of rule.entries()) part.require('at least one item')
  return {
    from: rule.get('from').list((item) => {
      item.only(['source'])
      item.get('source').require('the properties of a source')
      return readClauses(item.get('source'), SOURCE, HTTP_SOURCE)
    }),
    to: rule.get('to').list((item) => {
      item.only(['operation'])
      item.get('operation').require('the properties of an operation')
      return readClauses(item.get('operation'), OPERATION, HTTP_OPERATION)
    }),
    when: rule.get('when').list(readCondition).flat(),
  }
}

/** `principals` and `notPrincipals`, and so on. */
function readClauses(
  map: Field,
  known: Readonly<Record<string, AuthorizationAttribute>>,
  http: readonly string[],
): AuthorizationClause[] {
  const negated = (name: string): string => `not${name.charAt(0).toUpperCase()}${name.slice(1)}`
  const names = [...Object.keys(known), ...http].flatMap((name) => [name, negated(name)])
  map.only(names)
  return map.entries().flatMap(([name, values]) => {
    if (!names.includes(name) || !values.require('at least one value')) return []
    const positive =
      [...Object.keys(known), ...http].find((each) => each === name || negated(each) === name) ?? name
    return readValues(
      values,
      Object.hasOwn(known, positive) ? known[positive] : undefined,
      name,
      positive !== name,
    )
  })
}

function readCondition(item: Field): AuthorizationClause[] {
  item.only(['key', 'values', 'notValues'])
  const key = item.get('key').text(undefined, notEmpty)
  const attribute = Object.hasOwn(CONDITION, key) ? CONDITION[key] : undefined
  if (!item.get('values').present && !item.get('notValues').present)
    item.get('values').wrong('expected values or notValues, found neither')
  return [
    ...readValues(item.get('values'), attribute, key, false),
    ...readValues(item.get('notValues'), attribute, key, true),
  ]
}

function readValues(
  list: Field,
  attribute: AuthorizationAttribute | undefined,
  name: string,
  negated: boolean,
): AuthorizationClause[] {
  if (!list.present) return []
  const rule = (attribute === undefined ? undefined : RULE_OF[attribute]) ?? notEmpty
  if (!list.require('at least one value')) return []
  const values = list.list((value) => value.text(undefined, rule))
  return [{ attribute, name, values, negated }]
}
