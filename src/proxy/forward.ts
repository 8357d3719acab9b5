import type { Socket } from 'node:net'
import { fail, ok, type Result } from '../lib/result.ts'
import type { FilterChainConfig } from '../resources/accept-types.ts'
import type { Ending } from './access-log.ts'
import type { Connection } from './connection.ts'
import type { Connector, ServerProof } from './connector.ts'
import type { ProxyContext } from './context.ts'
import type { Dialled } from './dial.ts'
import { dialOptions } from './dial-options.ts'
import { serverExpired, watchExpiry } from './expiry.ts'
import { Pump, type PumpEnd, type PumpOutcome, reset } from './pump.ts'

/**
 * Connects the upstream of a connection whose caller is known and allowed. The dialled socket belongs to the caller of this
 * function, unless the connection has ended meanwhile. Never rejects: what throws is a fault of ours, and ends the connection.
 */
export async function connectUpstream(
  context: ProxyContext,
  connection: Connection,
  chain: FilterChainConfig,
  name: string,
): Promise<Result<Dialled, Ending>> {
  let dialled: Dialled | undefined
  try {
    connection.facts.upstream = name
    connection.advance({ phase: 'connecting' })
    const upstream = context.upstreams.get(name)
    if (upstream === undefined) return fail({ flag: 'NR', reason: `no upstream is called ${name}` })
    const beganMs = connection.elapsedMs
    const dial = context.dialer.dial(upstream, dialOptions(connection, chain, name))
    connection.onPhaseEnd(() => dial.cancel())
    const result = await dial.result
    if (!result.ok) return result
    dialled = result.value
    if (connection.ended) {
      dialled.raw.destroy()
      return fail({ flag: 'DC', reason: 'the connection has ended' })
    }
    connection.facts.endpoint = dialled.endpoint.name
    connection.facts.connectMs = connection.elapsedMs - beganMs
    bindToServer(context, connection, dialled.server)
    return ok(dialled)
  } catch (error) {
    dialled?.raw.destroy()
    return fail(context.fault(connection, error))
  }
}

/** No connection outlives the certificate of the server, as none outlives its client's. */
function bindToServer(
  { clock }: ProxyContext,
  connection: Connection,
  server: ServerProof | undefined,
): void {
  if (server === undefined) return
  connection.server = server
  watchExpiry(connection, clock.now())
}

/** Cuts the connections whose server would not be talked to today. */
export function rejudgeServers({ clock, connections, guard }: ProxyContext, connector: Connector): void {
  const nowMs = clock.now()
  for (const connection of [...connections])
    guard(connection, () => rejudgeServer(connection, connector, nowMs))
}

function rejudgeServer(connection: Connection, connector: Connector, nowMs: number): void {
  const { server } = connection
  // The timer that ends it does not know when the clock was set.
  if (server !== undefined && nowMs >= server.svid.notAfterMs)
    connection.end(serverExpired(server.svid), 'reset')
  const refusal = server === undefined || connection.ended ? undefined : connector.refusal(server)
  if (refusal !== undefined)
    connection.end({ flag: 'ID_REFUSED', reason: `after a change: ${refusal}` }, 'reset')
}

/** Lets bytes flow between downstream and upstream until either ends. `head` goes upstream first. */
export function splice(
  context: ProxyContext,
  connection: Connection,
  chain: FilterChainConfig,
  downstream: PumpEnd,
  upstream: Dialled,
  head?: Buffer,
): void {
  connection.downstream = downstream
  const pump = new Pump({
    downstream,
    upstream,
    idleTimeoutMs: chain.idleTimeoutMs,
    clock: context.clock,
    onEnd: (outcome) => connection.end(endingOf(outcome, chain), 'leave'),
  })
  connection.advance({ phase: 'open', pump })
  context.upstreams.get(connection.facts.upstream)?.failback.watch(connection, upstream.endpoint)
  const { endpoint } = upstream
  connection.onEnd(({ headBytes }) => {
    endpoint.bytesSent += headBytes + pump.bytesIn
    endpoint.bytesReceived += pump.bytesOut
  })
  if (chain.maxDurationMs !== undefined) {
    connection.limit(chain.maxDurationMs, { flag: 'DT', reason: `open for ${chain.maxDurationMs} ms` })
  }
  if (head !== undefined && head.length > 0) {
    connection.headBytes = head.length
    upstream.stream.write(head)
  }
  pump.start()
}

function endingOf(outcome: PumpOutcome, chain: FilterChainConfig): Ending {
  switch (outcome.kind) {
    case 'done':
      return { flag: '-', reason: 'both sides ended' }
    case 'idle':
      return { flag: 'SI', reason: `no byte either way for ${chain.idleTimeoutMs} ms` }
    case 'broken':
      return outcome.side === 'downstream'
        ? { flag: 'DC', reason: `the client broke the connection: ${outcome.detail}` }
        : { flag: 'UC', reason: `the upstream broke the connection: ${outcome.detail}` }
  }
}

/** What is to be carried where. */
export interface Route {
  readonly chain: FilterChainConfig
  /** The name of the upstream. */
  readonly upstream: string
  readonly downstream: PumpEnd
  /** What was read from the client already, and goes upstream first. */
  readonly head?: Buffer
}

/** The whole of it for a socket that is there already: connect, then pump; `refuse` says how to part when there is no upstream. */
export async function forward(
  context: ProxyContext,
  connection: Connection,
  { chain, upstream, downstream, head }: Route,
  refuse: (ending: Ending) => void,
): Promise<void> {
  const result = await connectUpstream(context, connection, chain, upstream)
  context.guard(connection, () => {
    if (connection.ended) return
    if (result.ok) splice(context, connection, chain, downstream, result.value, head)
    else refuse(result.error)
  })
  // Nobody else has it then: the connection ended before, or a fault of ours kept the pump from taking it over.
  if (result.ok && connection.ended) reset(result.value)
}

/** A TCP socket as both ends of itself. */
export function plainEnd(raw: Socket): PumpEnd {
  return { stream: raw, raw }
}
