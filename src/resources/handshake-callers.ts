// Who may finish the TLS handshake of a filter chain, where the handshake has to decide: an Envoy's rbac is only asked at the client's
// first byte, which comes too late for a server that speaks first.
import type { IdClause } from '../model/handshake-policy.ts'
import type { SubjectAltNameMatcher } from '../xds/gen/envoy/extensions/transport_sockets/tls/v3/common_pb.js'
import { idPatterns, type Pattern, uriMatcher } from './authorization-rules.ts'
import { uriSan } from './envoy.ts'

export interface HandshakeCallers {
  /** Only their bundles count, sorted; empty: nobody may call. */
  readonly trustDomains: readonly string[]
  /** One of them has to match a URI of the certificate. */
  readonly sans: readonly SubjectAltNameMatcher[]
}

/**
 * `trustDomains` are those that may call at all. Each that is left may say an id that is let in: an Envoy takes the bundle by the
 * certificate's first URI and matches any of them, so a CA whose own ids are all kept out could else name another's.
 */
export function handshakeCallers(
  trustDomains: readonly string[],
  ids: readonly IdClause[] | undefined,
): HandshakeCallers {
  if (ids === undefined)
    return {
      trustDomains: [...trustDomains],
      sans: trustDomains.map((domain) => uriSan('prefix', `spiffe://${domain}/`)),
    }
  const patterns = ids
    .flatMap(({ clause, namespace }) => idPatterns(clause, namespace))
    .filter((pattern) => trustDomains.some((domain) => mayBeOf(pattern, domain)))
  return {
    trustDomains: trustDomains.filter((domain) => patterns.some((pattern) => mayBeOf(pattern, domain))),
    sans: patterns.map(uriMatcher),
  }
}

/** Whether an id of the trust domain can match. */
function mayBeOf({ case: kind, value }: Pattern, trustDomain: string): boolean {
  const own = `spiffe://${trustDomain}/`
  if (kind === 'exact') return value.startsWith(own)
  return kind !== 'prefix' || value.startsWith(own) || own.startsWith(value)
}
