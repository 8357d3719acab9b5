// Faults at random, many at once, for a while. Connections may be lost; bytes may not be wrong, nobody may be heard who must not
// be, and in the end everything is as it was.
import { setTimeout as sleep } from 'node:timers/promises'
import { becomes } from './becomes.ts'
import { type During, type Fault, LONGEST_MS, type Outcome, within } from './fault.ts'
import { footprint, type World } from './world.ts'

const EVERY_MS = { least: 200, most: 500 }
const RECOVERY_MS = 60_000
/** A worker that has just started has fewer of everything than one that has lived. */
const DESCRIPTORS_SLACK = 24
const MEMORY_RATIO = 1.7

export interface ChaosOptions {
  readonly seconds: number
  readonly seed: string
  readonly random: () => number
}

export async function chaos(world: World, faults: readonly Fault[], options: ChaosOptions): Promise<Outcome> {
  const { load, violations } = world
  const before = { ...load.tally }
  const violated = violations.length
  const failures: string[] = []
  const base = footprint(...(await world.workers()))
  const done = await inflict(world, faults, options)
  let recoveryMs = -1
  try {
    recoveryMs = await load.whole(Date.now(), RECOVERY_MS)
  } catch (error) {
    failures.push((error as Error).message)
  }
  const end = await settled(world, base.descriptors + DESCRIPTORS_SLACK).catch((error: Error) => {
    failures.push(error.message)
    return undefined
  })
  const memory = end === undefined ? 0 : end.memoryKb / base.memoryKb
  if (memory > MEMORY_RATIO) failures.push(`memory is ${memory.toFixed(2)} times what it was`)
  const wrongBytes = load.tally.wrongBytes - before.wrongBytes
  if (wrongBytes > 0) failures.push(`${wrongBytes} wrong bytes`)
  failures.push(...new Set(violations.slice(violated)))
  const count = [...done.values()].reduce((sum, times) => sum + times, 0)
  return {
    runtime: world.runtime,
    fault: `chaos for ${options.seconds} s: ${count} faults at random, every ${EVERY_MS.least} to ${EVERY_MS.most} ms`,
    opened: load.tally.opened - before.opened,
    lost: load.tally.lost - before.lost,
    established: load.tally.established - before.established,
    wrongBytes,
    recoveryMs,
    failures,
    notes: [
      `seed ${options.seed}; ${load.intrusions} attempts of those who must not be heard; ${violations.length - violated} violations`,
      `memory of the workers ${memory.toFixed(2)}×, descriptors ${base.descriptors} before, ${end?.descriptors} after`,
      [...done].map(([name, times]) => `${times}× ${name}`).join('; '),
    ],
  }
}

/** Begins a fault every so often, whatever else is under way. How often each was. */
async function inflict(
  world: World,
  faults: readonly Fault[],
  options: ChaosOptions,
): Promise<Map<string, number>> {
  const { seconds, random } = options
  const done = new Map<string, number>()
  const busy = new Set<string>()
  const underWay = new Set<Promise<void>>()
  const until = Date.now() + seconds * 1_000
  while (Date.now() < until) {
    const free = faults.filter(({ chaos }) => chaos !== undefined && !busy.has(chaos))
    const fault = free[Math.floor(random() * free.length)]
    if (fault?.chaos !== undefined) {
      const { chaos, name } = fault
      busy.add(chaos)
      done.set(name, (done.get(name) ?? 0) + 1)
      const one: Promise<void> = happen(world, fault).finally(() => {
        busy.delete(chaos)
        underWay.delete(one)
      })
      underWay.add(one)
    }
    await sleep(EVERY_MS.least + random() * (EVERY_MS.most - EVERY_MS.least))
  }
  await Promise.all(underWay)
  return done
}

/** What a fault wants to see of a healthy world cannot be had here, where others are under way: only its end is awaited. */
async function happen(world: World, fault: Fault): Promise<void> {
  const ends: (() => unknown)[] = []
  const during: During = { note: () => {}, over: () => {}, end: (step) => ends.push(step) }
  await within(LONGEST_MS, fault.begin(world, during)).catch(() => {})
  for (const end of ends) {
    try {
      await within(LONGEST_MS, Promise.resolve(end()))
    } catch {
      // The process that it was done to is no more.
    }
  }
}

/** What the workers have once the connections of the faults are gone; throws when they stay. */
async function settled(world: World, descriptors: number): Promise<ReturnType<typeof footprint>> {
  const workers = await world.workers()
  await becomes(`the workers have at most ${descriptors} descriptors`, 15_000, () => {
    return footprint(...workers).descriptors <= descriptors
  })
  return footprint(...workers)
}
