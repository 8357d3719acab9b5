// `npm run test:faults`: real processes under faults, one row each, then random faults for a while. The last line is the count.
//   --runtime node|bun   only this one (default: both, side by side)
//   --only TEXT          only the faults whose name contains it; no random ones
//   --seconds N          how long random faults go on (default 60; 0: not at all)
//   --seed N             of everything random (default: new, printed)
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { namespacesUnavailable } from '../../src/cli/demo/netns.ts'
import { unavailable } from '../targets/target.ts'
import type { Outcome } from './fault.ts'
import { memoryLimitUnavailable } from './faults-limits.ts'
import { HEADING, rowOf, skipRow } from './table.ts'

const { values } = parseArgs({
  options: {
    runtime: { type: 'string' },
    only: { type: 'string', default: '' },
    seconds: { type: 'string' },
    seed: { type: 'string', default: String(Date.now() % 1_000_000) },
  },
})
const seconds = values.seconds ?? (values.only === '' ? '60' : '0')
const kinds = (['node', 'bun'] as const).filter(
  (kind) => values.runtime === undefined || values.runtime === kind,
)

let passed = 0
let failed = 0

function print(outcome: Outcome): void {
  if (outcome.failures.length === 0) passed += 1
  else failed += 1
  process.stdout.write(`${rowOf(outcome)}\n`)
}

/** One runtime's world, in namespaces of its own: its disk, its wires, its ports. */
async function runInside(runtime: string): Promise<void> {
  const inside = fileURLToPath(new URL('inside.ts', import.meta.url))
  const args = [runtime, values.only, seconds, values.seed]
  const child = spawn('unshare', ['-Urnm', process.execPath, inside, ...args], {
    stdio: ['ignore', 'pipe', 'inherit', 'pipe'],
  })
  const lines = createInterface({ input: child.stdout as NodeJS.ReadableStream })
  lines.on('line', (line) => {
    if (line.startsWith('{')) print(JSON.parse(line) as Outcome)
    else process.stdout.write(`${line}\n`)
  })
  const [code] = await once(child, 'close')
  if (code === 0) return
  failed += 1
  process.stdout.write(`${runtime}: the suite itself ended with ${code}\n`)
}

process.stdout.write(`seed ${values.seed}\n${HEADING}\n`)
const namespaces = namespacesUnavailable()
const missing = kinds.map((kind) => namespaces ?? unavailable(kind))
if (namespaces !== undefined && process.env['CI'] !== undefined) failed += 1
await Promise.all(
  kinds.map(async (kind, i) => {
    const why = missing[i]
    if (why === undefined) await runInside(kind)
    else process.stdout.write(`${skipRow(kind, 'everything', why)}\n`)
  }),
)
process.stdout.write(`${skipRow('both', 'memory used up', memoryLimitUnavailable())}\n`)
process.stdout.write(`${passed} passed, ${failed} failed\n`)
process.exitCode = failed === 0 && passed > 0 ? 0 : 1
