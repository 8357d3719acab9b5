// What is measured of one server, with one fleet of clients.
import { setTimeout as sleep } from 'node:timers/promises'
import type { Fleet } from './fleet.ts'
import { upstreamOf } from './objects.ts'
import type { Target } from './target.ts'

export interface Plan {
  readonly clients: number
  readonly services: number
  readonly changes: number
  readonly rounds: number
  /** Services of the second, larger cluster. */
  readonly large: number
  readonly churnSeconds: number
}

type Report = (column: string, value: number) => void

const CHANGES_PER_SECOND = 50
/** Between changes that are to come out of rest: longer than a server gathers changes. */
const REST_MS = 75
/** Clients of the larger cluster: it is about the objects. */
const FEW = 20

export async function measure(plan: Plan, target: Target, fleet: Fleet, add: Report): Promise<void> {
  const atRest = await target.liveBytes()
  const before = target.cpuMs
  await fleet.connect(plan.clients)
  await settled(target)
  const connected = target.cpuMs
  add('connect CPU ms', connected - before)
  const own = process.cpuUsage()
  const startedAt = performance.now()
  await fleet.subscribe(plan.services)
  add('cold start s', (performance.now() - startedAt) / 1_000)
  await settled(target)
  add('cold start CPU ms', target.cpuMs - connected)
  add('load client CPU ms', (process.cpuUsage(own).user + process.cpuUsage(own).system) / 1_000)
  add('live kB a client', ((await target.liveBytes()) - atRest) / 1_024 / plan.clients)
  await measureChanges(plan, target, fleet, add)
}

async function measureChanges(plan: Plan, target: Target, fleet: Fleet, add: Report): Promise<void> {
  const firsts: number[] = []
  const lasts: number[] = []
  await settled(target)
  const own = process.cpuUsage()
  const cpu = target.cpuMs
  const received = fleet.received
  for (let i = 0; i < plan.changes; i++) {
    await sleep(REST_MS)
    const { first, last } = await change(plan, target, fleet, i, 30_000 + i)
    firsts.push(first)
    lasts.push(last)
  }
  await settled(target)
  const pushes = plan.changes * plan.clients
  add('first client ms', percentile(firsts, 50))
  add('last client p50 ms', percentile(lasts, 50))
  add('last client p99 ms', percentile(lasts, 99))
  add('CPU us a push', ((target.cpuMs - cpu) * 1_000) / pushes)
  const { user, system } = process.cpuUsage(own)
  add('client CPU us a push', (user + system) / pushes)
  add('bytes a push', (fleet.received - received) / pushes)
}

/** One endpoint moves: milliseconds from there to its decoding at the first and at the last client. */
async function change(
  plan: Plan,
  target: Target,
  fleet: Fleet,
  index: number,
  revision: number,
): Promise<{ readonly first: number; readonly last: number }> {
  const service = index % plan.services
  const name = upstreamOf(service)
  const arrivals = fleet.arrivals([name])
  const at = performance.now()
  await target.command('change', service, revision, name)
  const seen = (await arrivals).get(name) ?? { first: Number.NaN, last: Number.NaN }
  return { first: seen.first - at, last: seen.last - at }
}

/** Fifty changes a second, each of another service; and changes that no client can see. */
export async function measureChurn(plan: Plan, target: Target, fleet: Fleet, add: Report): Promise<void> {
  const seen = await received(fleet, () => change(plan, target, fleet, 0, 1))
  const both = await received(fleet, async () => {
    for (let i = 1; i < CHANGES_PER_SECOND; i++)
      await target.command('unseen', i, i < plan.changes ? 30_000 + i : i)
    // What those may have caused comes before what can be seen.
    await change(plan, target, fleet, 0, 2)
  })
  add('bytes unseen', both - seen)

  const count = Math.min(CHANGES_PER_SECOND * plan.churnSeconds, plan.services)
  const names = Array.from({ length: count }, (_, i) => upstreamOf(i))
  const arrivals = fleet.arrivals(names)
  const sent: number[] = []
  const startedAt = performance.now()
  for (let i = 0; i < count; i++) {
    const due = startedAt + (i * 1_000) / CHANGES_PER_SECOND
    if (due > performance.now()) await sleep(due - performance.now())
    sent.push(performance.now())
    await target.command('change', i, 40_000 + i, names[i] ?? '')
  }
  const came = await arrivals
  const delays = names.map((name, i) => (came.get(name)?.last ?? Number.NaN) - (sent[i] ?? 0))
  add('churn p50 ms', percentile(delays, 50))
  add('churn worst ms', Math.max(...delays))
}

export async function measureLoad(plan: Plan, target: Target, fleet: Fleet): Promise<string[]> {
  const lines = [
    `loaded and serving after ${(target.startMs / 1_000).toFixed(1)} s, ${(target.cpuMs / 1_000).toFixed(1)} s of CPU`,
  ]
  const few = { ...plan, services: plan.large }
  await fleet.connect(FEW)
  await fleet.subscribe(plan.large)
  lines.push(`${((await target.liveBytes()) / 2 ** 20).toFixed(0)} MiB resident with ${FEW} clients`)
  const lasts: number[] = []
  const cpu = target.cpuMs
  for (let i = 0; i < plan.changes; i++) {
    await sleep(REST_MS)
    lasts.push((await change(few, target, fleet, i, 30_000 + i)).last)
  }
  lines.push(
    `change to last client: p50 ${percentile(lasts, 50).toFixed(1)} ms, p99 ${percentile(lasts, 99).toFixed(1)} ms`,
  )
  lines.push(`CPU of a change: ${((target.cpuMs - cpu) / plan.changes).toFixed(1)} ms`)
  return lines
}

async function received(fleet: Fleet, what: () => Promise<unknown>): Promise<number> {
  const before = fleet.received
  await what()
  return fleet.received - before
}

/** Until the server spends next to nothing: what clients were answered last may still be read. */
async function settled(target: Target): Promise<void> {
  for (let idle = 0; idle < 2; ) {
    const before = target.cpuMs
    await sleep(100)
    idle = target.cpuMs - before < 3 ? idle + 1 : 0
  }
}

function percentile(values: readonly number[], percent: number): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor((sorted.length * percent) / 100))] ?? Number.NaN
}
