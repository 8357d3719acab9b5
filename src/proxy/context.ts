import type { SvidVerifier } from '../identity/verify-svid.ts'
import type { Clock } from '../lib/clock.ts'
import type { Logger } from '../lib/log.ts'
import type { Ending } from './access-log.ts'
import type { HandshakeAdmission } from './admission.ts'
import type { HelloLimits } from './client-hello.ts'
import type { Connection, ConnectionInit, ConnectionState } from './connection.ts'
import type { Dialer } from './dial.ts'
import type { ShadowVerdict } from './rbac.ts'
import type { SecretStore } from './secrets.ts'
import type { UpstreamRegistry } from './upstream-registry.ts'

export interface ProxyLimits {
  /** Connections open or being opened at one time. */
  readonly connections: number
  /** TLS handshakes in flight, begun in one turn of the event loop, and waiting to begin. */
  readonly handshakes: number
  readonly handshakesPerTurn: number
  readonly waitingHandshakes: number
  readonly hello: HelloLimits
  /** Active health checks in flight. */
  readonly healthChecks: number
  /** How long connections of a listener or upstream that was taken away may go on, milliseconds. */
  readonly drainMs: number
}

export const DEFAULT_LIMITS: ProxyLimits = {
  connections: 50_000,
  handshakes: 1_024,
  handshakesPerTurn: 1,
  waitingHandshakes: 4_096,
  hello: { messageBytes: 16_384, records: 64 },
  healthChecks: 256,
  drainMs: 45_000,
}

export type Transport = 'tcp' | 'udp'

/** A descriptor that another process bound for us. It is closed with the server that listens on it. */
export interface InheritedListener {
  readonly fd: number
  /** Nobody listens on it any more. */
  release(): void
}

/** The descriptor for an address, or why there is none; undefined for an address that is ours to bind. */
export type InheritedSocket = (
  host: string,
  port: number,
  transport?: Transport,
) => InheritedListener | { readonly problem: string } | undefined

/** What the parts of one engine share. */
export interface ProxyContext {
  readonly clock: Clock
  readonly logger: Logger
  readonly limits: ProxyLimits
  readonly reusePort: boolean
  readonly inheritedSocket: InheritedSocket
  readonly secrets: SecretStore
  readonly verifier: SvidVerifier
  readonly dialer: Dialer
  readonly admission: HandshakeAdmission
  readonly upstreams: Pick<UpstreamRegistry, 'get' | 'has'>
  readonly names: Pick<UpstreamRegistry, 'find' | 'namesOf'>
  readonly connections: ReadonlySet<Connection>
  /** Registers a connection; undefined when there are too many. */
  admit(init: ConnectionInit, state: ConnectionState): Connection | undefined
  /** Counts what shadow rules would have done. */
  shadow(verdict: ShadowVerdict): void
  /** Cuts the connections that match and are still there when the time for draining is over. */
  drainWhere(matches: (connection: Connection) => boolean, why: string): void
  /**
   * Runs a callback of a connection: what it throws is a bug of ours, and ends this one connection with a log line, never the
   * process.
   */
  guard(connection: Connection, run: () => void): void
  /** Ends a connection that such a throw broke, where it was caught elsewhere; how, for whoever waits. */
  fault(connection: Connection, error: unknown): Ending
}
