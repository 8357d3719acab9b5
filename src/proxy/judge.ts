import { fail, ok, type Result } from '../lib/result.ts'
import type { Ending } from './access-log.ts'
import type { Connection } from './connection.ts'
import type { ProxyContext } from './context.ts'
import type { Caller, Policy } from './rbac.ts'

/**
 * Lets policy decide about the connections of one listener: when a caller is known, and again at every change. What policy denies is
 * cut; where only reachability does, a connection that is open may finish until the drain deadline.
 */
export class Judge {
  readonly #context: ProxyContext
  /** Connections on a path that was taken away, with what takes the deadline back. */
  readonly #leaving = new Map<Connection, () => void>()

  constructor(context: ProxyContext) {
    this.#context = context
  }

  /** Whether a new connection may be. */
  admit(connection: Connection, policy: Policy, caller: Caller): Result<void, Ending> {
    this.#watch(connection, policy, caller)
    const verdict = policy.judge(caller)
    connection.facts.rule = verdict.policy
    return verdict.allowed ? ok(undefined) : fail({ flag: 'RBAC_DENIED', reason: verdict.reason })
  }

  /** Ends a connection that would not be let in today. */
  again(connection: Connection, policy: Policy, caller: Caller): void {
    const verdict = policy.judge(caller)
    if (verdict.allowed) {
      connection.facts.rule = verdict.policy
      this.#leaving.get(connection)?.()
    } else if (verdict.drains && connection.state.phase === 'open') {
      this.#drain(connection, verdict.reason)
    } else {
      connection.end({ flag: 'RBAC_DENIED', reason: `after a change: ${verdict.reason}` }, 'reset')
    }
  }

  /** The deadline runs from the first denial; a path that comes back takes it away. */
  #drain(connection: Connection, reason: string): void {
    if (this.#leaving.has(connection)) return
    const { clock, limits } = this.#context
    const cancel = clock.after(limits.drainMs, () =>
      connection.end(
        { flag: 'DRAIN', reason: `after a change ${limits.drainMs} ms ago: ${reason}` },
        'reset',
      ),
    )
    const forget = () => {
      cancel()
      this.#leaving.delete(connection)
    }
    this.#leaving.set(connection, forget)
    connection.onEnd(forget)
  }

  #watch(connection: Connection, policy: Policy, caller: Caller): void {
    const shadow = policy.shadow?.(caller)
    if (shadow === undefined) return
    const said = shadow.allowed ? 'allowed' : 'denied'
    connection.facts.shadowRule = shadow.policy === '' ? said : `${said}: ${shadow.policy}`
    this.#context.shadow(shadow)
  }
}
