// The token that links two clusters: made by the one, carried by a person, spent by the other. It holds what the other needs to reach and
// verify the first, and a secret by which the first knows that it was the one who asked for this. RFC 6750 calls such a thing a bearer token.
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto'
import { deflateRawSync, inflateRawSync } from 'node:zlib'
import { trustDomainError } from '../identity/spiffe-id.ts'
import { TrustBundle } from '../identity/trust-bundle.ts'
import { fail, ok, type Result } from '../lib/result.ts'
import type { Model } from '../model/types.ts'

/** What one cluster tells the other about itself. */
export interface LinkSide {
  readonly cluster: string
  readonly trustDomain: string
  /** PEM: roots and issuing intermediates. */
  readonly bundle: string
  readonly network: string
  readonly region: string
  readonly zone: string
  /** `host:port` of its ADS or of gateways that lead there, separated by commas; '': it dials, and cannot be dialled. */
  readonly adsAddress: string
}

export interface LinkToken {
  readonly id: string
  /** 256 bits, base64url; nobody but the token has it. */
  readonly secret: string
  /** Milliseconds since the epoch. */
  readonly expiresMs: number
  /** The one cluster that may spend it; '': any. */
  readonly for: string
  /** Who made it. */
  readonly side: LinkSide
  /** `host:port` where it is spent. */
  readonly linkAddresses: readonly string[]
}

/** A cluster as its own model knows it. */
export function linkSideOf({ self }: Pick<Model, 'self'>, bundle: string): LinkSide {
  const { id: cluster, trustDomain, network, locality } = self
  return {
    cluster,
    trustDomain,
    bundle,
    network,
    region: locality.region,
    zone: locality.zone,
    adsAddress: '',
  }
}

const PREFIX = 'isthmus-link-1'
const TOKEN_MAX = 65_536
const TEXT_MAX = 262_144
const ADDRESSES_MAX = 16

export function newSecret(): { readonly id: string; readonly secret: string; readonly hash: string } {
  const secret = randomBytes(32).toString('base64url')
  return { id: randomBytes(6).toString('hex'), secret, hash: hashOf(secret) }
}

/** SHA-256, hexadecimal; the secret has 256 random bits, so a fast hash gives nothing away. */
export function hashOf(secret: string): string {
  return createHash('sha256').update(secret).digest('hex')
}

export function secretFits(secret: string, hash: string): boolean {
  const [a, b] = [Buffer.from(hashOf(secret)), Buffer.from(hash)]
  return a.length === b.length && timingSafeEqual(a, b)
}

export function encodeToken(token: LinkToken): string {
  const body = deflateRawSync(JSON.stringify(token), { level: 9 }).toString('base64url')
  return `${PREFIX}.${body}.${checksum(body)}`
}

/** Reads a token as somebody pasted it. The error is one line and says what to do. */
export function decodeToken(text: string): Result<LinkToken, string> {
  const pasted = text.replace(/\s+/g, '')
  const [prefix, body = '', sum, ...more] = pasted.split('.')
  if (!/^isthmus-link-/.test(pasted))
    return fail('this is no token: one begins with "isthmus-link-" and comes from "isthmus link create"')
  if (prefix !== PREFIX)
    return fail(`the token is of another release (${prefix?.slice(0, 32)}), ${PREFIX} is read`)
  if (pasted.length > TOKEN_MAX || more.length > 0 || sum !== checksum(body))
    return fail('the token is garbled: copy it whole')
  try {
    const json = inflateRawSync(Buffer.from(body, 'base64url'), { maxOutputLength: TEXT_MAX }).toString()
    return readToken(JSON.parse(json) as unknown)
  } catch {
    return fail('the token is garbled: copy it whole')
  }
}

function readToken(value: unknown): Result<LinkToken, string> {
  const members = membersOf(value)
  const side = readSide(members['side'])
  if (!side.ok) return fail(`the token is not good: ${side.error}`)
  const { id, secret, expiresMs, linkAddresses, for: forCluster = '' } = members
  const good =
    typeof id === 'string' &&
    /^[0-9a-f]{12}$/.test(id) &&
    typeof secret === 'string' &&
    typeof expiresMs === 'number' &&
    typeof forCluster === 'string' &&
    Array.isArray(linkAddresses) &&
    linkAddresses.length > 0 &&
    linkAddresses.length <= ADDRESSES_MAX &&
    linkAddresses.every(isAddress)
  if (!good) return fail('the token is not good: a member is missing or of another kind')
  return ok({
    id,
    secret,
    expiresMs,
    for: forCluster,
    side: side.value,
    linkAddresses: linkAddresses as string[],
  })
}

/** Reads what somebody says of his cluster. The error names the member. */
export function readSide(value: unknown): Result<LinkSide, string> {
  const {
    cluster,
    trustDomain,
    bundle,
    network = '',
    region = '',
    zone = '',
    adsAddress = '',
  } = membersOf(value)
  const texts = [cluster, trustDomain, bundle, network, region, zone, adsAddress]
  if (!texts.every((text): text is string => typeof text === 'string'))
    return fail('cluster, trustDomain, bundle, network, region, zone and adsAddress are texts')
  const [id = '', domain = '', pem = '', net = '', reg = '', zon = '', ads = ''] = texts
  if (!isClusterId(id))
    return fail(`cluster "${shown(id)}": expected a name of a-z, 0-9, "-" and ".", at most 63 characters`)
  const domainError = trustDomainError(domain)
  if (domainError !== undefined) return fail(`trustDomain "${shown(domain)}": ${domainError}`)
  for (const [name, text] of Object.entries({ network: net, region: reg, zone: zon }))
    if (!/^[A-Za-z0-9._/-]{0,253}$/.test(text)) return fail(`${name} "${shown(text)}": expected a plain name`)
  const addresses = ads === '' ? [] : ads.split(',')
  if (addresses.length > ADDRESSES_MAX || !addresses.every(isAddress))
    return fail(`adsAddress "${shown(ads)}": expected host:port, several with commas between`)
  const parsed = TrustBundle.parse(domain, pem, 'bundle')
  if (!parsed.ok) return fail(`bundle: ${parsed.error.message}`)
  return ok({
    cluster: id,
    trustDomain: domain,
    bundle: pem,
    network: net,
    region: reg,
    zone: zon,
    adsAddress: ads,
  })
}

const isClusterId = (text: string): boolean => /^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$/.test(text)

function isAddress(value: unknown): value is string {
  const match =
    typeof value === 'string' ? /^(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]{1,253}):(\d{1,5})$/.exec(value) : null
  return match !== null && Number(match[2]) >= 1 && Number(match[2]) <= 65_535
}

function membersOf(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {}
}

const checksum = (body: string): string => createHash('sha256').update(body).digest('hex').slice(0, 8)
const shown = (text: string): string => text.slice(0, 64).replace(/[^\x20-\x7e]/g, '?')
