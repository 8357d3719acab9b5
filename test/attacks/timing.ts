// Whether a prober can tell by the clock why a name was refused: the same bytes come back, and after the same time. Welch's t test
// over many trials in random order (as in Reparaz, Balasch, Verbauwhede: Dude, is my code constant time?).
import { connect } from 'node:net'
import { upstream } from '../proxy/support.ts'
import type { Target } from '../targets/target.ts'
import { NAME, type Scene } from './context.ts'
import { hello, padding, sni, usualExtensions } from './hello.ts'

/** Above this the means differ, as good as surely. */
export const SUSPICIOUS_T = 4.5
/** The slowest tenth is what else the machine did meanwhile. */
const KEPT = 0.9
const MAX_MS = 20_000

/** A name that is served first and withdrawn before the trials. */
export const WITHDRAWN = NAME.replace('9080', '9084')

/**
 * Why a name is refused, each in a hello of the same length. The first three are names of one shape, of which only the gateway knows
 * what they are: they must be alike to the last. What is wrong with the others a prober knows, since he has made them.
 */
export const REASONS = [
  'unknown',
  'not exposed',
  'withdrawn',
  'missing',
  'malformed',
  'an IP address',
] as const
type Reason = (typeof REASONS)[number]
export const SECRET: readonly Reason[] = ['not exposed', 'withdrawn']

function hellos(): ReadonlyMap<Reason, Buffer> {
  const { length } = NAME
  const random = Buffer.alloc(32, 7)
  const named = (name: string) =>
    hello({ random, extensions: [...usualExtensions(), sni(name), padding(length - name.length)] })
  return new Map<Reason, Buffer>([
    ['unknown', named(NAME.replace('productpage', 'nosuchthing'))],
    ['not exposed', named(NAME.replace('productpage', 'bookreviews'))],
    ['withdrawn', named(WITHDRAWN)],
    // The name's bytes, and nine of extension and list around them.
    ['missing', hello({ random, extensions: [...usualExtensions(), padding(length + 9)] })],
    ['malformed', named(`${NAME.slice(0, -1)}.`)],
    ['an IP address', named('10.0.0.1')],
  ])
}

export interface Timing {
  readonly reason: Reason
  readonly trials: number
  readonly medianUs: number
  /** Against `unknown`. */
  readonly t: number
}

export interface TimingReport {
  readonly timings: readonly Timing[]
  /** Every answer there was, in hexadecimal. */
  readonly answers: ReadonlySet<string>
}

/** Who keeps the secret keeps it from the clock as well. */
export function secretsKept(timings: readonly Timing[]): boolean {
  return timings.every(({ reason, t }) => !SECRET.includes(reason) || Math.abs(t) < SUSPICIOUS_T)
}

/** The same class: no reason takes a quarter longer or shorter than another (a handshake takes ten times as long). */
export function sameClass(timings: readonly Timing[]): boolean {
  const medians = timings.map(({ medianUs }) => medianUs)
  return Math.max(...medians) < 1.25 * Math.min(...medians)
}

/** Serves a name, withdraws it, and asks `trials` times; no longer than 20 seconds. */
export async function measureRefusals(target: Target, scene: Scene, trials: number): Promise<TimingReport> {
  const { resources } = scene
  const cluster = upstream(WITHDRAWN)
  await target.update({ ...resources, clusters: [...resources.clusters, cluster] })
  await target.update(resources)
  // Compiled and warm before it counts.
  await measure(target, Math.ceil(trials / 10), MAX_MS)
  return measure(target, trials, MAX_MS)
}

async function measure(target: Target, trials: number, maxMs: number): Promise<TimingReport> {
  const inputs = [...hellos()]
  const times = new Map<Reason, number[]>(REASONS.map((reason) => [reason, []]))
  const answers = new Set<string>()
  const begun = Date.now()
  for (let trial = 0; trial < trials && Date.now() - begun < maxMs; trial += 1) {
    const [reason, bytes] = inputs[Math.floor(Math.random() * inputs.length)] ?? ['unknown', Buffer.alloc(0)]
    const [answer, us] = await ask(target.port('edge'), bytes)
    answers.add(answer)
    times.get(reason)?.push(us)
  }
  const limit = quantile([...times.values()].flat(), KEPT)
  const kept = new Map([...times].map(([reason, all]) => [reason, all.filter((us) => us <= limit)]))
  const base = kept.get('unknown') ?? []
  return {
    answers,
    timings: [...kept].map(([reason, all]) => ({
      reason,
      trials: all.length,
      medianUs: quantile(all, 0.5),
      t: reason === 'unknown' ? 0 : welch(base, all),
    })),
  }
}

/** From the last byte of the hello to the first of the answer, microseconds; the answer whole. */
function ask(port: number, bytes: Buffer): Promise<[string, number]> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: '127.0.0.1', port, noDelay: true })
    const chunks: Buffer[] = []
    let begun = 0n
    let us = 0
    socket.on('connect', () => {
      begun = process.hrtime.bigint()
      socket.write(bytes)
    })
    socket.on('data', (chunk) => {
      if (chunks.length === 0) us = Number(process.hrtime.bigint() - begun) / 1_000
      chunks.push(chunk)
    })
    socket.on('error', reject)
    socket.on('close', () => resolve([Buffer.concat(chunks).toString('hex'), us]))
  })
}

function quantile(values: readonly number[], q: number): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * q))] ?? 0
}

function welch(a: readonly number[], b: readonly number[]): number {
  const [first, second] = [a, b].map((values) => {
    const mean = values.reduce((sum, x) => sum + x, 0) / values.length
    const variance = values.reduce((sum, x) => sum + (x - mean) ** 2, 0) / (values.length - 1)
    return { mean, error: variance / values.length }
  })
  if (first === undefined || second === undefined) return 0
  return (first.mean - second.mean) / Math.sqrt(first.error + second.error)
}
