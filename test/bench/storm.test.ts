// The storm benchmark works; its figures are not judged here.
import { execFile } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import type { StormPlan, StormRound } from '../../bench/storm/measure.ts'

const script = join(dirname(fileURLToPath(import.meta.url)), '..', '..', 'bench', 'storm', 'run.ts')

t.test(
  'a storm over quiet flows: every request is answered, and every connection that was begun',
  async (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'isthmus-storm-test-'))
    const file = join(folder, 'rounds.json')
    const text = await new Promise<string>((resolve) => {
      execFile(
        process.execPath,
        [script, '--quick', '--targets', 'ours-node', '--json', file],
        (_, out, err) => resolve(out + err),
      )
    })
    const { plan, rounds } = JSON.parse(readFileSync(file, 'utf8')) as {
      plan: StormPlan
      rounds: Record<string, StormRound[]>
    }
    const [round] = rounds['ours-node'] ?? []
    if (round === undefined) throw new Error(text)
    for (const flow of [round.quiet, round.during, round.direct]) {
      t.equal(flow.done, plan.quietRate * plan.seconds)
      t.equal(flow.latenciesUs.length, flow.done)
    }
    const { done, skipped, errors } = round.storm
    t.equal(done + skipped, plan.stormRate * (2 * plan.seconds + 1))
    t.equal(errors, 0, round.storm.error)
    t.ok(round.target.cpuUs > 0)
    rmSync(folder, { recursive: true })
  },
)
