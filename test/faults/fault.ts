// What a fault is, and how its cost is measured.
import { setTimeout as sleep } from 'node:timers/promises'
import type { Tally } from './load.ts'
import type { World } from './world.ts'

export interface Fault {
  readonly name: string
  /**
   * What it may cost. `nothing`: every connection, open or new, goes on. `new`: connections that are open go on, new ones may fail
   * while it lasts. `some`: connections may be lost, but the whole comes back by itself once it is over.
   */
  readonly costs: 'nothing' | 'new' | 'some'
  /** True: only the Node processes of a pod are concerned, which are the same whatever the worker runs on. */
  readonly nodeOnly?: boolean
  /** One of the random ones. The value is what it is done to: two faults of one thing are not under way together. */
  readonly chaos?: string
  /** Brings it about, and resolves once what must be true during the fault has been seen: it throws where it is not. */
  begin(world: World, during: During): Promise<void>
}

type Step = () => Promise<unknown> | unknown

export interface During {
  /** Adds a few words to the table. */
  note(words: string): void
  /** What ends the fault, whatever is seen during it. */
  end(step: Step): void
  /** From now on the product is to recover by itself; default: once the fault has ended. */
  over(): void
}

export interface Outcome {
  readonly runtime: string
  readonly fault: string
  readonly opened: number
  readonly lost: number
  readonly established: number
  readonly wrongBytes: number
  /** From the end of the fault until every flow and every way is whole again. */
  readonly recoveryMs: number
  readonly failures: readonly string[]
  readonly notes: readonly string[]
}

const RECOVERY_MS = 60_000
/** No step of a fault may take longer. */
export const LONGEST_MS = 70_000

/** Lets one fault happen under load. */
export async function suffer(world: World, fault: Fault): Promise<Outcome> {
  const { load, violations } = world
  const notes: string[] = []
  const failures: string[] = []
  const before = copyOf(load.tally)
  const violated = violations.length
  const from = world.pod.lines.length
  const reasons = new Map(load.tally.reasons)
  let recoveryMs = -1
  const ends: Step[] = []
  let overMs: number | undefined
  try {
    const over = () => {
      overMs = Date.now()
    }
    const during: During = { note: (words) => notes.push(words), end: (step) => ends.push(step), over }
    await within(LONGEST_MS, fault.begin(world, during))
  } catch (error) {
    failures.push((error as Error).message)
  }
  try {
    for (const end of ends) await within(LONGEST_MS, Promise.resolve(end()))
    recoveryMs = await load.whole(overMs ?? Date.now(), RECOVERY_MS)
  } catch (error) {
    failures.push((error as Error).message)
  }
  const lost = load.tally.lost - before.lost
  const established = load.tally.established - before.established
  const wrongBytes = load.tally.wrongBytes - before.wrongBytes
  if (fault.costs === 'nothing' && lost > 0)
    failures.push(`connections were lost: ${news(reasons, load.tally)}`)
  if (fault.costs === 'new' && established > 0)
    failures.push(`open connections were lost: ${news(reasons, load.tally)}`)
  if (wrongBytes > 0) failures.push(`${wrongBytes} wrong bytes`)
  failures.push(...new Set(violations.slice(violated)))
  if (failures.length > 0) notes.push(`the gateway says: ${world.endings(from)}`)
  return {
    runtime: world.runtime,
    fault: fault.name,
    opened: load.tally.opened - before.opened,
    lost,
    established,
    wrongBytes,
    recoveryMs,
    failures,
    notes,
  }
}

/** Throws when it is not done in time. */
export async function within(ms: number, step: Promise<unknown>): Promise<void> {
  const abort = new AbortController()
  const late = sleep(ms, undefined, { signal: abort.signal, ref: false }).then(() => {
    throw new Error(`not done within ${ms} ms`)
  })
  late.catch(() => {})
  await Promise.race([step, late])
  abort.abort()
}

const copyOf = ({ opened, lost, established, wrongBytes }: Tally) => ({
  opened,
  lost,
  established,
  wrongBytes,
})

function news(before: ReadonlyMap<string, number>, { reasons }: Tally): string {
  const grown = [...reasons].filter(([reason, count]) => count > (before.get(reason) ?? 0))
  return grown.map(([reason, count]) => `${count - (before.get(reason) ?? 0)}× ${reason}`).join(', ')
}

/** Throws with these words where it is not so. */
export function must(so: boolean, words: string): void {
  if (!so) throw new Error(words)
}

/** How long a fault lasts is part of what it is. */
export const lasts = (ms: number): Promise<void> => sleep(ms)
