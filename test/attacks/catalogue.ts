// The catalogue of attacks and bad inputs: as data, one row per input, with what our engine must answer and what Envoy does.
import type { Seen } from '../targets/wire.ts'
import type { CertificatePool, ClientCertificate } from './certificates.ts'
import { type AttackContext, outcomeOf } from './context.ts'
import { HANDSHAKES } from './handshakes.ts'
import { HELLOS } from './hellos.ts'

export interface Attack {
  /** Group of the catalogue. */
  readonly row: number
  readonly title: string
  /** What the client saw, or the outcome in words. */
  run(context: AttackContext): Promise<Seen | string>
  /** The outcome on our engine, the same on every runtime. */
  readonly ours: string
  readonly envoy: string
  /** By a client that may call, so that a connect is no leak. */
  readonly authorised?: boolean
  /** Envoy connects upstream for it all the same. */
  readonly envoyConnects?: boolean
}

/**
 * A certificate in TLS 1.3 and 1.2. How a handshake ends that is refused is the TLS library's affair (an alert, or the end of
 * the connection, before or after the client's half of it); that it ends is ours.
 */
function withCertificate({ row, title, cert, key, verdict, envoy }: ClientCertificate): Attack {
  const outcome = (what: ClientCertificate['verdict']) => (what === 'accept' ? 'routed' : 'refused')
  return {
    row,
    title,
    run: async (context) => {
      const outcomes = new Set<string>()
      for (const maxVersion of ['TLSv1.3', 'TLSv1.2'] as const) {
        const seen = outcomeOf(await context.call({ cert, key, maxVersion }))
        outcomes.add(seen === 'routed' || seen === 'open' ? seen : 'refused')
      }
      return [...outcomes].join(' or ')
    },
    ours: outcome(verdict),
    envoy: outcome(envoy),
  }
}

export function catalogue(pool: CertificatePool): readonly Attack[] {
  const denied: ClientCertificate = {
    row: 28,
    title: 'a good certificate of a caller that policy denies',
    cert: pool.denied.pem,
    key: pool.denied.keyPem,
    verdict: 'refuse',
    envoy: 'refuse',
  }
  return [
    ...HELLOS,
    ...HANDSHAKES,
    ...pool.certificates.map(withCertificate),
    // Its rbac filter decides at the client's first byte.
    { ...withCertificate(denied), envoyConnects: true },
  ]
}
