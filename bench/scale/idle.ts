// Connections that are open and still, ever more of them: whether one of nine thousand weighs what one of a thousand does.
import { Harness } from '../harness.ts'
import { residentBytes, settledResidentBytes } from '../process-stats.ts'
import type { Figures } from '../report.ts'
import { startTarget, TARGETS } from '../targets.ts'

/** The worker's engine, and whoever does the same. */
const WEIGHED = ['ours-node', 'ours-bun', 'envoy', 'haproxy']
const SETTLE_MS = { full: 6_000, quick: 600 } as const

/** Adds a column for each number of connections. A target that cannot be run is left out, with a line that says so; `quick`: ours alone. */
export async function weighIdle(counts: readonly number[], quick: boolean, figures: Figures): Promise<void> {
  const settleMs = quick ? SETTLE_MS.quick : SETTLE_MS.full
  const harness = await Harness.start()
  try {
    for (const name of quick ? WEIGHED.slice(0, 2) : WEIGHED) {
      const kind = TARGETS.find((each) => each.name === name)
      if (kind === undefined) continue
      try {
        kind.version()
      } catch (error) {
        console.log(`${name} is not weighed: ${(error as Error).message}`)
        continue
      }
      for (const connections of counts) {
        const target = await startTarget(kind, harness.job, harness.folderOf(`${name}-${connections}`))
        try {
          // What is allocated once, with the first connections, is not what each of them weighs.
          await harness.drive(target, { mode: 'handshakes', connections: 8, size: 100, seconds: 0.5 })
          const before = await settledResidentBytes(target.pid, settleMs)
          const { errors, error } = await harness.drive(target, {
            mode: 'idle',
            connections,
            size: 100,
            seconds: 0,
          })
          if (errors > 0) throw new Error(`${name}: ${errors} of ${connections} connections failed: ${error}`)
          const after = await settledResidentBytes(target.pid, settleMs)
          figures.add(name, `${connections} connections`, (after - before) / connections / 1_024)
          figures.add(name, `${connections} connections, MB in all`, residentBytes(target.pid) / 1_048_576)
        } finally {
          await harness.release()
          await target.stop()
        }
      }
    }
  } finally {
    harness.stop()
  }
}
