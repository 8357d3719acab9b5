import type { Connection } from './connection.ts'

/**
 * A client that vanished without a word (power, a NAT entry that expired) shows by unanswered probes. Envoy has none on a listener
 * unless `socket_options` ask for them; without an idle timeout such a connection would stay for ever.
 */
const KEEPALIVE_IDLE_MS = 300_000

/**
 * Has the system probe the client of a connection. To be called once in each round: most connections are over before their first, and
 * pay no system calls for it. Said again it does nothing.
 */
export function keepAlive({ downstream }: Connection): void {
  downstream?.raw.setKeepAlive(true, KEEPALIVE_IDLE_MS)
}
