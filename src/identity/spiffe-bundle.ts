import { fail, ok, type Result } from '../lib/result.ts'
import type { TrustBundle } from './trust-bundle.ts'

/** A SPIFFE bundle document (SPIFFE Trust Domain and Bundle, section 4), the part that concerns X.509-SVIDs. */
export interface SpiffeBundle {
  /** The CAs in PEM; empty: the document revokes all of them. */
  readonly pem: string
  /** `spiffe_sequence`; undefined where there is none. */
  readonly sequence: number | undefined
  /** `spiffe_refresh_hint`, seconds. */
  readonly refreshHintSeconds: number | undefined
}

const MAX_BYTES = 1024 * 1024

/**
 * Reads a JWK Set. Entries for JWT-SVIDs, and those of a use that is not known or not given, are ignored, as section 4.2.2 demands; an
 * `x509-svid` entry without exactly one certificate in `x5c` is an error. An empty `keys` revokes the whole trust domain; a document
 * without `keys` says nothing and is an error.
 */
export function parseSpiffeBundle(text: string): Result<SpiffeBundle, string> {
  if (text.length > MAX_BYTES) return fail(`longer than ${MAX_BYTES} bytes`)
  const document = parseJson(text)
  if (!isRecord(document)) return fail('expected a JSON object, a SPIFFE bundle document')
  const { keys, spiffe_sequence: sequence, spiffe_refresh_hint: hint } = document
  if (!Array.isArray(keys)) return fail('keys: expected an array')
  for (const [field, value] of [
    ['spiffe_sequence', sequence],
    ['spiffe_refresh_hint', hint],
  ] as const) {
    if (value !== undefined && (!Number.isSafeInteger(value) || (value as number) < 0))
      return fail(`${field}: expected a whole number`)
  }
  const blocks: string[] = []
  for (const [index, key] of keys.entries()) {
    if (!isRecord(key)) return fail(`keys[${index}]: expected an object`)
    if (key['use'] !== 'x509-svid') continue
    const [der, ...more] = Array.isArray(key['x5c']) ? (key['x5c'] as unknown[]) : []
    if (typeof der !== 'string' || more.length > 0)
      return fail(`keys[${index}].x5c: expected one certificate`)
    if (!/^[A-Za-z0-9+/]+={0,2}$/.test(der)) return fail(`keys[${index}].x5c[0]: expected base64`)
    blocks.push(`-----BEGIN CERTIFICATE-----\n${der}\n-----END CERTIFICATE-----\n`)
  }
  if (blocks.length === 0 && keys.length > 0)
    return fail(
      'keys: none is for X.509-SVIDs (use "x509-svid"); an empty list would revoke the trust domain',
    )
  return ok({
    pem: blocks.join(''),
    sequence: sequence as number | undefined,
    refreshHintSeconds: hint as number | undefined,
  })
}

/**
 * Trust bundles as a SPIFFE bundle map (gRFC A87): by trust domain a bundle document with the CAs, so that a gRPC client believes each only
 * about its own trust domain.
 */
export function formatSpiffeBundleMap(bundles: readonly TrustBundle[]): string {
  const documents = bundles.map(({ trustDomain, certificates }) => {
    const keys = certificates.map(({ x509 }) => ({
      use: 'x509-svid',
      ...x509.publicKey.export({ format: 'jwk' }),
      x5c: [x509.raw.toString('base64')],
    }))
    return [trustDomain, { keys }] as const
  })
  return JSON.stringify({ trust_domains: Object.fromEntries(documents) }, null, 2)
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
