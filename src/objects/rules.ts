// What a text must look like, each with the words for the message. Sources: k8s.io/apimachinery util/validation, RFC 1123.
import { isIP, isIPv4, isIPv6 } from 'node:net'
import { parseIpRange } from '../lib/ip-range.ts'
import type { Field, TextRule } from './field.ts'

const LABEL = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/
const SUBDOMAIN = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/
const QUALIFIED = /^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$/
const PORT_NAME = /^(?=[a-z0-9-]{1,15}$)(?!.*--)(?=.*[a-z])[a-z0-9][a-z0-9-]*[a-z0-9]$|^[a-z]$/

const rule =
  (pass: (text: string) => boolean, expected: string): TextRule =>
  (text) =>
    pass(text) ? undefined : expected

export const dnsLabel: TextRule = rule(
  (text) => text.length <= 63 && LABEL.test(text),
  'a DNS label (lower-case letters, digits, "-", at most 63)',
)

export const dnsSubdomain: TextRule = rule(
  (text) => text.length <= 253 && SUBDOMAIN.test(text),
  'a DNS name (lower-case letters, digits, "-", ".", at most 253)',
)

/** A name in Tetrate's hierarchy: looser than Kubernetes' own. */
export const hierarchyName: TextRule = rule(
  (text) => text.length <= 253 && QUALIFIED.test(text),
  'a name (letters, digits, "-", "_", ".", at most 253)',
)

export const portName: TextRule = rule(
  (text) => PORT_NAME.test(text),
  'a port name (lower-case letters, digits, "-", at most 15, one letter at least)',
)

export const ipAddress: TextRule = rule((text) => isIP(text) !== 0, 'an IP address')
export const ipv4Address: TextRule = rule(isIPv4, 'an IPv4 address')
export const ipv6Address: TextRule = rule(isIPv6, 'an IPv6 address')

export const ipRanges: TextRule = rule(
  (text) => text.split(',').every((part) => parseIpRange(part.trim()) !== undefined),
  'addresses or ranges such as 10.0.0.0/8, separated by commas',
)

export const hostOrIp: TextRule = rule(
  (text) => isIP(text) !== 0 || (text.length <= 253 && SUBDOMAIN.test(text.toLowerCase())),
  'an IP address or a host name',
)

/** A host name, with `*.` before it where any name below is meant. */
export const hostPattern: TextRule = rule(
  (text) => isIP(text) !== 0 || SUBDOMAIN.test(text.toLowerCase().replace(/^\*\./, '')),
  'a host name',
)

export const notEmpty: TextRule = rule((text) => text !== '', 'a text that is not empty')

const labelValue: TextRule = rule(
  (text) => text === '' || (text.length <= 63 && QUALIFIED.test(text)),
  'a label value (letters, digits, "-", "_", ".", at most 63)',
)

function isQualifiedKey(key: string): boolean {
  const slash = key.indexOf('/')
  const name = key.slice(slash + 1)
  if (name.length > 63 || !QUALIFIED.test(name)) return false
  return slash < 0 || dnsSubdomain(key.slice(0, slash)) === undefined
}

/** `key` or `key=value`, as labels are. */
export function isLabelPair(text: string): boolean {
  const [key = '', value = '', ...more] = text.split('=')
  return more.length === 0 && isQualifiedKey(key) && labelValue(value) === undefined
}

/** Labels, or the labels that a selector asks for. */
export function readLabels(field: Field): Record<string, string> {
  return readPairs(field, labelValue)
}

export function readAnnotations(field: Field): Record<string, string> {
  return readPairs(field)
}

function readPairs(field: Field, valueRule?: TextRule): Record<string, string> {
  const pairs: [string, string][] = []
  for (const [key, value] of field.entries()) {
    if (!isQualifiedKey(key)) value.wrong('the key must be "name" or "prefix.example/name"')
    pairs.push([key, value.text(undefined, valueRule)])
  }
  return Object.fromEntries(pairs)
}

const UNIT_MS: Readonly<Record<string, number>> = {
  h: 3_600_000,
  m: 60_000,
  s: 1_000,
  ms: 1,
  us: 1e-3,
  µs: 1e-3,
  ns: 1e-6,
}
/** Longer than any drain: 24.8 days, what a timer can wait. */
const DURATION_MAX_MS = 2 ** 31 - 1

/** A duration as Go and protobuf JSON write it (`5s`, `1m30s`, `1.5h`), in whole milliseconds; absent = the fallback. */
export function readDurationMs(field: Field, fallbackMs: number): number {
  if (!field.present) return fallbackMs
  const ms = typeof field.value === 'string' ? parseDurationMs(field.value) : undefined
  if (ms !== undefined) return ms
  const found = typeof field.value === 'object' ? 'something else' : JSON.stringify(field.value)
  field.wrong(`expected a duration such as 5s or 1m30s, found ${found}`)
  return fallbackMs
}

function parseDurationMs(text: string): number | undefined {
  if (text === '0') return 0
  if (!/^(\d+(\.\d+)?(h|ms|m|s|us|µs|ns))+$/.test(text)) return undefined
  let ms = 0
  for (const [, amount, unit] of text.matchAll(/(\d+(?:\.\d+)?)(h|ms|m|s|us|µs|ns)/g)) {
    ms += Number(amount) * (UNIT_MS[unit ?? ''] ?? 0)
  }
  return ms <= DURATION_MAX_MS ? Math.round(ms) : undefined
}
