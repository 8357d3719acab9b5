// What a load is: whom it goes to, which flows it has, and how long each phase of it lasts.

/** Whom the load goes to. */
export interface LoadTarget {
  /** An IP address: names are resolved once, before the load. */
  readonly address: string
  readonly port: number
  /** Mutual TLS; undefined for a service in clear. */
  readonly tls?: LoadTls
}

export interface LoadTls {
  /** Server names (SNI), one after the other over the connections. Empty: none is sent. */
  readonly serverNames: readonly string[]
  readonly certificatePem: string
  readonly privateKeyPem: string
  /** Roots and issuing intermediates that may vouch for the server. */
  readonly caPem: string
  /** SPIFFE ids that may answer, verified as our sidecar does; undefined: whoever has a certificate of the CA. */
  readonly expectedIds?: readonly string[]
  /** Application protocols (ALPN) that are offered; default none. */
  readonly alpn?: readonly string[]
}

/** One HTTP/1.1 request, sent again and again. */
export interface LoadRequest {
  readonly method: 'GET' | 'PUT' | 'POST'
  readonly path: string
  /** Default: the server name without `outbound_.` and the like does not exist for HTTP, so `isthmus-bench`. */
  readonly host?: string
  /** Of the body that is sent. */
  readonly bodyBytes: number
}

interface FlowBase {
  /** Of one flow in the plan. */
  readonly name: string
  readonly request: LoadRequest
  /** Names of phases, consecutive, in which it runs; default all. Held connections are there from before the first. */
  readonly phases?: readonly string[]
  /** Where there are several processes: all of it in the first one, where nothing else is, so that the load of others is none of it. */
  readonly apart?: boolean
  /** Open loop: the part of a period (0 to 1) that its first begin waits for, so that processes take turns. `shareOf` says it. */
  readonly offset?: number
}

/**
 * Requests on connections that stay. Without `rate` a closed loop: each connection asks again as soon as it has its answer. With it an
 * open loop: requests begin at constant intervals whatever the target does, on the connection that was idle for longest, and latency
 * counts from the moment that the schedule says, so that a target that stalls is not spared the requests that it delayed.
 */
export interface RequestsFlow extends FlowBase {
  readonly kind: 'requests'
  readonly connections: number
  /** Per second, of all processes together. */
  readonly rate?: number
}

/** A connection, a request, the end of the connection; latency is that of all of it, from the dial (or the schedule) to the answer. */
export interface HandshakesFlow extends FlowBase {
  readonly kind: 'handshakes'
  /** At one time, at most. */
  readonly connections: number
  readonly rate?: number
}

/**
 * Connections that are only there: after one request (`idle`), with an answer that is not read (`stalled-download`: the request must
 * ask for more than all buffers hold), or with a body that the service does not take (`stalled-upload`).
 */
export interface HeldFlow extends FlowBase {
  readonly kind: 'idle' | 'stalled-download' | 'stalled-upload'
  readonly connections: number
}

/**
 * Connections that come at a constant rate and live as connections do: half end after one request, the others ask every
 * `thinkSeconds` for an exponentially distributed time of `lifeSeconds` in the mean. One in ten ends by a reset.
 */
export interface ChurnFlow extends FlowBase {
  readonly kind: 'churn'
  /** New connections per second, of all processes together. */
  readonly rate: number
  readonly lifeSeconds: number
  readonly thinkSeconds: number
}

export type FlowPlan = RequestsFlow | HandshakesFlow | HeldFlow | ChurnFlow

export interface PhasePlan {
  readonly name: string
  readonly seconds: number
  /** Left out of the figures, not of the counters. Default false. */
  readonly warmUp?: boolean
}

export interface LoadPlan {
  readonly target: LoadTarget
  readonly flows: readonly FlowPlan[]
  readonly phases: readonly PhasePlan[]
  /** For a connection with its handshake, and for each answer. Default 10,000. Milliseconds. */
  readonly timeoutMs?: number
  /** How long what is under way at the end may take yet. Default 2,000. Milliseconds. */
  readonly graceMs?: number
  /** How often counters are noted on the way. Default 1,000. Milliseconds. */
  readonly intervalMs?: number
}

export const DEFAULT_TIMEOUT_MS = 10_000
export const DEFAULT_GRACE_MS = 2_000
export const DEFAULT_INTERVAL_MS = 1_000

/** Milliseconds after the begin. */
export function planMs(plan: Pick<LoadPlan, 'phases'>): number {
  return plan.phases.reduce((sum, { seconds }) => sum + seconds * 1_000, 0)
}

/** When a flow runs, milliseconds after the begin. Throws on phases that are not in the plan: that is the caller's bug. */
export function spanOf(flow: FlowPlan, phases: readonly PhasePlan[]): { fromMs: number; untilMs: number } {
  const names = flow.phases ?? phases.map(({ name }) => name)
  const first = phases.findIndex(({ name }) => name === names[0])
  const last = first + names.length - 1
  if (
    phases.slice(first, last + 1).some(({ name }, index) => name !== names[index]) ||
    first < 0 ||
    last >= phases.length
  )
    throw new Error(`flow ${flow.name}: ${names.join(', ')} are no consecutive phases of the plan`)
  const fromMs = planMs({ phases: phases.slice(0, first) })
  return { fromMs, untilMs: fromMs + planMs({ phases: phases.slice(first, last + 1) }) }
}

/**
 * What one of several processes does: its share of connections and of rate. A flow of which it has no share is left out; those that
 * are `apart` have the first process for themselves.
 */
export function shareOf(plan: LoadPlan, index: number, processes: number): LoadPlan {
  const divided = processes > 1 && plan.flows.some(({ apart }) => apart === true)
  const flows = plan.flows.flatMap((flow) => {
    if (!divided) return shareOfFlow(flow, index, processes)
    if (flow.apart === true) return index === 0 ? [flow] : []
    return index === 0 ? [] : shareOfFlow(flow, index - 1, processes - 1)
  })
  return { ...plan, flows }
}

function shareOfFlow(flow: FlowPlan, index: number, processes: number): FlowPlan[] {
  const offset = index / processes
  if (flow.kind === 'churn') return [{ ...flow, offset, rate: flow.rate / processes }]
  const connections =
    Math.floor(flow.connections / processes) + (index < flow.connections % processes ? 1 : 0)
  if (connections === 0) return []
  if (!('rate' in flow) || flow.rate === undefined) return [{ ...flow, connections }]
  // Of those processes that have a connection to send on.
  const sharers = Math.min(processes, flow.connections)
  return [{ ...flow, connections, offset: index / sharers, rate: flow.rate / sharers }]
}
