import type { VerifiedSvid } from '../identity/verify-svid.ts'
import type { Ending } from './access-log.ts'
import type { Connection } from './connection.ts'
import { ROUND_MS } from './rounds.ts'

/** Whoever ends before two rounds are over gets a timer of its own; the rest is looked at again. */
const SOON_MS = 3 * ROUND_MS

export const clientExpired = ({ id }: VerifiedSvid): Ending => ({
  flag: 'ID_EXPIRED',
  reason: `the certificate of ${id.uri} ended`,
})

export const serverExpired = ({ id }: VerifiedSvid): Ending => ({
  flag: 'ID_EXPIRED',
  reason: `the certificate of the server ${id.uri} ended`,
})

/**
 * Sees to it that a connection does not outlive the certificate of its client, nor that of its server. To be called when one of them is
 * known, and then in every round: a timer for each connection, for hours, is more memory than anything else that we hold for it.
 */
export function watchExpiry(connection: Connection, nowMs: number): void {
  const client = connection.peer?.proof?.svid
  const server = connection.server?.svid
  const clientFirst = (client?.notAfterMs ?? Infinity) <= (server?.notAfterMs ?? Infinity)
  const first = clientFirst ? client : server
  if (first === undefined || first.notAfterMs - nowMs > SOON_MS || connection.expiresAtMs <= first.notAfterMs)
    return
  connection.expiresAtMs = first.notAfterMs
  connection.limit(first.notAfterMs - nowMs, clientFirst ? clientExpired(first) : serverExpired(first))
}
