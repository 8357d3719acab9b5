// The loads that `isthmus bench` knows by name, as plans.
import type { FlowPlan, LoadPlan, LoadRequest, LoadTarget, PhasePlan } from './plan.ts'
import { get, put } from './run.ts'

export interface Scenario {
  readonly about: string
  readonly connections: number
  /** Bytes of an answer, or of a body that is sent. */
  readonly size: number
  readonly durationMs: number
  readonly warmUpMs: number
  /** Whether a rate makes sense: an open loop. */
  readonly rated: boolean
  /** Default rate, per second; undefined: closed loop. */
  readonly rate?: number
  /** Without a path of the user's: one of our backend that has so many bytes; else `/`. */
  readonly sized: boolean
}

const BASE = { connections: 32, size: 1_000, durationMs: 10_000, warmUpMs: 2_000, rated: true, sized: false }

export const SCENARIOS = {
  requests: { ...BASE, about: 'requests on connections that stay' },
  handshakes: { ...BASE, connections: 8, size: 100, about: 'a connection, one request, the end; again' },
  download: { ...BASE, connections: 4, size: 1_000_000, sized: true, about: 'long answers' },
  upload: { ...BASE, connections: 4, size: 1_000_000, about: 'long bodies, sent with PUT' },
  idle: {
    ...BASE,
    connections: 1_000,
    size: 100,
    warmUpMs: 0,
    rated: false,
    about: 'connections that are only there',
  },
  'stalled-download': {
    ...BASE,
    connections: 100,
    size: 64_000_000,
    warmUpMs: 0,
    rated: false,
    sized: true,
    about: 'answers that nobody reads',
  },
  'stalled-upload': {
    ...BASE,
    connections: 100,
    size: 64_000_000,
    warmUpMs: 0,
    rated: false,
    about: 'bodies that the service does not read (path /stall of our backend)',
  },
  storm: {
    ...BASE,
    rate: 200,
    durationMs: 5_000,
    about: 'handshakes as fast as they go, over quiet requests at a rate: before, storm, after',
  },
  churn: { ...BASE, rate: 50, about: 'connections that come at a rate and live for a while each' },
} as const satisfies Readonly<Record<string, Scenario>>

export type ScenarioName = keyof typeof SCENARIOS

/** What the user asked for, with the scenario's defaults in the place of what he did not. */
export interface ScenarioSettings {
  readonly connections: number
  readonly rate?: number
  readonly durationMs: number
  readonly warmUpMs: number
  readonly path: string
  readonly size: number
  readonly host?: string
  /** Storm: handshakes at one time, or per second. */
  readonly stormConnections: number
  readonly stormRate?: number
  readonly lifeMs: number
  readonly thinkMs: number
  readonly timeoutMs: number
}

export function scenarioPlan(name: ScenarioName, target: LoadTarget, settings: ScenarioSettings): LoadPlan {
  const { timeoutMs, durationMs } = settings
  return {
    target,
    phases: phasesOf(name, settings),
    flows: flowsOf(name, settings),
    timeoutMs,
    // A short load has a curve over time too.
    intervalMs: Math.min(1_000, Math.max(100, Math.round(durationMs / 2_000) * 100)),
  }
}

function phasesOf(name: ScenarioName, { durationMs, warmUpMs }: ScenarioSettings): PhasePlan[] {
  const warmUp = warmUpMs > 0 ? [{ name: 'warm-up', seconds: warmUpMs / 1_000, warmUp: true }] : []
  const names = name === 'storm' ? ['before', 'storm', 'after'] : ['load']
  return [...warmUp, ...names.map((phase) => ({ name: phase, seconds: durationMs / 1_000 }))]
}

function flowsOf(name: ScenarioName, settings: ScenarioSettings): FlowPlan[] {
  const { connections, rate, path, size, host } = settings
  const atRate = rate === undefined ? {} : { rate }
  const request: LoadRequest = name.endsWith('upload') ? put(path, size, host) : get(path, host)
  switch (name) {
    case 'requests':
    case 'download':
    case 'upload':
      return [{ kind: 'requests', name, connections, request, ...atRate }]
    case 'handshakes':
      return [{ kind: 'handshakes', name, connections, request, ...atRate }]
    case 'storm': {
      const { stormConnections, stormRate } = settings
      const storm = stormRate === undefined ? {} : { rate: stormRate }
      return [
        { kind: 'requests', name: 'quiet', connections, request, apart: true, ...atRate },
        {
          kind: 'handshakes',
          name: 'storm',
          connections: stormConnections,
          request,
          phases: ['storm'],
          ...storm,
        },
      ]
    }
    case 'churn': {
      const { lifeMs, thinkMs } = settings
      return [
        {
          kind: 'churn',
          name,
          rate: rate ?? 1,
          lifeSeconds: lifeMs / 1_000,
          thinkSeconds: thinkMs / 1_000,
          request,
        },
      ]
    }
    default:
      return [{ kind: name, name, connections, request }]
  }
}
