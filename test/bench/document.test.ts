// The document that a run writes: prose stays, tables are the run's, and a loss is called one.
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { filled } from '../../bench/document.ts'
import { GOALS, judge, LATENCY_COLUMN, SCALE_COLUMN } from '../../bench/goals.ts'
import { addOthers, readOthers } from '../../bench/others.ts'
import { shareOf, sorted } from '../../bench/profile.ts'
import { Figures } from '../../bench/report.ts'
import type { Results } from '../../bench/results.ts'
import { sections } from '../../bench/sections.ts'

const docs = join(dirname(fileURLToPath(import.meta.url)), '..', '..', 'docs')

/** A run that measured next to nothing. */
function results(rounds: Figures): Results {
  return {
    date: '2026-01-02T03:04:05.000Z',
    commit: 'abc',
    machine: {
      ...{ cpu: 'CPU', cpus: 2, memory: 2 ** 34, kernel: '6', system: 'Linux', virtual: false },
      ...{ descriptors: 1024, loadBefore: 0 },
    },
    placement: 'here',
    plan: {
      ...{ peers: true, quick: false, cases: '', seconds: 1, rounds: 6, memoryRounds: 1, latencyRounds: 1 },
      ...{ latencySeconds: 1, profileSeconds: 0, idle: 1, stalled: 1 },
      settleMs: 1,
    },
    took: 60,
    programs: { 'ours-bun': '1', envoy: '2' },
    libraries: { 'ours-bun': 'BoringSSL', envoy: 'BoringSSL' },
    negotiated: {},
    rounds,
    load: new Figures(),
    steadiness: {
      ...{ tolerance: 0.05, foreignShare: 0.1 },
      calibration: { median: 1_000, least: 900, most: 1_100 },
      ...{ rounds: 6, discarded: 2, unsteady: 1 },
    },
    profiles: [],
    problems: [],
  }
}

const WANTED = { target: 'ours-bun', column: 'µs', beside: 'envoy', most: 1 } as const

function figures(ours: readonly number[], theirs: readonly number[]): Figures {
  const all = new Figures()
  for (const value of ours) all.add('ours-bun', 'µs', value)
  for (const value of theirs) all.add('envoy', 'µs', value)
  return all
}

t.test('tables are replaced, prose is not, and a table that nobody makes is an error', async (t) => {
  const text =
    'before\n<!-- figures: a -->\nold\n<!-- /figures -->\nbetween\n<!-- figures: b -->\n<!-- /figures -->\n'
  const once = filled(text, { a: '| 1 |', b: '| 2 |' })
  t.equal(
    once,
    'before\n<!-- figures: a -->\n| 1 |\n<!-- /figures -->\nbetween\n<!-- figures: b -->\n| 2 |\n<!-- /figures -->\n',
  )
  t.equal(filled(once, { a: '| 1 |', b: '| 2 |' }), once)
  t.throws(() => filled(text, { a: '' }), /"b".*there are a/)
})

t.test('met, missed, and how closely; what was not measured is neither', async (t) => {
  const ten = [10, 10, 10, 10, 10, 10]
  const verdict = (ours: readonly number[], theirs = ten) => {
    const [judged] = judge(figures(ours, theirs), [WANTED])
    return [judged?.verdict, judged?.close]
  }
  t.same(verdict([8, 8, 8, 9, 9, 9]), ['met', false])
  t.same(verdict([8, 8, 8, 9, 9, 11]), ['met', true])
  t.same(verdict([11, 11, 12, 12, 12, 12]), ['missed', false])
  t.same(verdict([9, 11, 12, 12, 12, 12]), ['missed', true])
  t.equal(verdict([], ten)[0], 'not measured')
  t.equal(verdict(ten, [])[0], 'not measured')
})

t.test('every loss stands in the table and in the list of what was missed', async (t) => {
  const all = new Figures()
  for (const goal of GOALS) {
    // Twice what is wanted, whatever it is.
    for (let round = 0; round < 6; round++) {
      if (goal.beside !== undefined && all.of(goal.beside, goal.column).length <= round)
        all.add(goal.beside, goal.column, 1)
      if (all.of(goal.target, goal.column).length <= round)
        all.add(goal.target, goal.column, 2 * goal.most + 1)
    }
  }
  const made = sections(results(all), {})
  const missed = (made['missed'] ?? '').split('\n')
  t.equal(missed.length, GOALS.length)
  t.equal((made['goals'] ?? '').match(/\*\*missed\*\*/g)?.length, GOALS.length)
  for (const { target, column } of GOALS) t.ok(missed.some((line) => line.includes(`${target}, ${column}`)))
})

t.test('too few rounds for 95 % are said with every interval', async (t) => {
  const all = new Figures()
  for (const value of [1, 2, 3]) all.add('envoy', 'KB per idle connection', value)
  t.match(sections(results(all), {})['memory'], /2\.00 \(1\.00–3\.00, 75 %\)/)
  t.match(
    sections(results(all), {})['run'],
    /2 rounds thrown away .* 6 kept, 1 of them although they were off/,
  )
})

t.test('what the other benchmarks wrote is told apart, and is judged too', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'isthmus-document-'))
  const write = (name: string, content: unknown): string => {
    writeFileSync(join(folder, name), JSON.stringify(content))
    return join(folder, name)
  }
  const theirs = { 'ours-bun': { 'add: worker CPU ms': [30, 31, 32], failed: [0, 0, 0] } }
  const scale = write('scale.json', { plan: { services: 10_000 }, rounds: theirs, idle: {} })
  const plan = { clients: 5, services: 7, rounds: 1 }
  const discovery = write('discovery.json', { plan, rounds: { ours: { 'cold start s': [1.5] } } })
  const waits = (us: number) => ({ latenciesUs: Array.from({ length: 100 }, () => us) })
  const storm = write('storm.json', {
    plan: { stormRate: 9, quietRate: 8, quietConnections: 7, seconds: 6 },
    rounds: { 'ours-bun': [{ quiet: waits(1_000), during: waits(1_200) }] },
  })
  const others = readOthers([scale, discovery, storm])
  const all = figures([1], [1])
  addOthers(all, others)
  const column = SCALE_COLUMN['add: worker CPU ms']
  t.equal(judge(all).find((each) => each.target === 'ours-bun' && each.column === column)?.verdict, 'missed')
  const made = sections(results(all), others)
  t.equal(judge(all).find((each) => each.column === LATENCY_COLUMN.storm)?.measured, 1.2)
  t.match(made['storm'], /9 new connections a second.*\| p99 in the storm, ms \| 1\.20 \|/s)
  t.match(made['discovery'], /^5 Delta sidecars, 7 services.*\| cold start s \| 1\.50 \|/s)
  t.match(made['scale'], /\| add: worker CPU ms \| 31\.0 \|/)
  t.throws(() => readOthers([write('other.json', { rounds: {} })]), /other\.json is not what/)
  rmSync(folder, { recursive: true })
})

t.test('a profile is sorted by where the samples were', async (t) => {
  t.equal(shareOf('[kernel.kallsyms]', '[k] tcp_sendmsg_locked'), 'kernel')
  t.equal(shareOf('libcrypto.so.3', '[.] anything'), 'crypto')
  t.equal(shareOf('node', '[.] __ecp_nistz256_mul_montx'), 'crypto')
  t.equal(shareOf('node', '[.] node::crypto::TLSWrap::ClearOut'), 'runtime and the rest')
  t.equal(shareOf('[JIT] tid 7', '[.] 0x00007efe5c045a99'), 'our script')
  t.equal(shareOf('envoy', '[.] 0x0000000001234567'), 'runtime and the rest')
  const text =
    '# comment\n 60 |[kernel.kallsyms]|[k] tcp_ack\n 30 |envoy |[.] 0x0000000001234567\n 10|[JIT] tid 7|[.] 0x1\n'
  const { shares, stripped, samples, top } = sorted(text)
  t.same(shares, { kernel: 0.6, crypto: 0, 'our script': 0.1, 'runtime and the rest': 0.3 })
  t.equal(stripped, true)
  t.equal(samples, 100)
  t.same(top[0], ['tcp_ack', 0.6])
})

t.test('docs/PERFORMANCE.md asks for tables that there are, and its plots are there', async (t) => {
  const text = readFileSync(join(docs, 'PERFORMANCE.md'), 'utf8')
  const asked = [...text.matchAll(/<!-- figures: ([\w-]+) -->/g)].map(([, name]) => name)
  const made = Object.keys(sections(results(new Figures()), {}))
  t.same(
    asked.filter((name) => !made.includes(name ?? '')),
    [],
  )
  t.same(
    ['run', 'goals', 'cpu', 'memory', 'latency'].filter((name) => !asked.includes(name)),
    [],
    'what everybody looks for is in it',
  )
  const plots = [...text.matchAll(/\((performance\/[\w-]+\.svg)\)/g)].map(([, file = '']) => file)
  t.ok(plots.length > 0)
  for (const file of plots) t.ok(existsSync(join(docs, file)), file)
})
