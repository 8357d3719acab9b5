// The stream's state machine in random lives of a client, against an oracle that is written from the specification alone.
import fc from 'fast-check'
import t from 'tap'
import { AdsStream } from '../../src/xds/ads-stream.ts'
import type { Variant } from '../../src/xds/messages.ts'
import { anyOps, type Build, goodOps, History, type HistoryOptions, type Op, type World } from './history.ts'
import { MUTANTS } from './mutants.ts'

const real: Build = (options) => new AdsStream(options)
const RUNS = Number(process.env['XDS_MODEL_RUNS'] ?? 500)
const SEED = Number(process.env['XDS_MODEL_SEED'] ?? 31)

const LIVES: Readonly<
  Record<string, Omit<HistoryOptions, 'variant' | 'build'> & { ops: fc.Arbitrary<readonly Op[]> }>
> = {
  'whatever it does': { ops: anyOps, resumesNamed: false, neverDangles: false },
  'one of ours, which keeps what it has by name': { ops: anyOps, resumesNamed: true, neverDangles: false },
  'one that takes everything': { ops: goodOps, resumesNamed: false, neverDangles: true },
}

/** What is wrong in the shortest life found; undefined when nothing is. */
function check(variant: Variant, build: Build, kind: string, numRuns: number): string | undefined {
  const { ops, ...options } = LIVES[kind] as (typeof LIVES)[string]
  const property = fc.property(ops, (life) => {
    const history = new History({ variant, build, ...options })
    try {
      history.run(life)
    } catch (error) {
      throw new Error(`${(error as Error).message}\n${history.log.join('\n')}`)
    }
  })
  const found = fc.check(property, { seed: SEED, numRuns })
  return found.failed ? String(found.errorInstance) : undefined
}

for (const variant of ['sotw', 'delta'] as const) {
  t.test(`${variant}: a client is told what it wants, once, in order, and nothing else`, async (t) => {
    for (const kind of Object.keys(LIVES)) t.equal(check(variant, real, kind, RUNS), undefined, kind)
  })
}

const ask = (type: number, add: string[] = [], drop: string[] = []): Op => ({
  do: 'ask',
  type,
  names: { add, drop },
})
const answer = (type: number, error?: string, add: string[] = [], drop: string[] = []): Op => ({
  do: 'answer',
  type,
  error,
  names: { add, drop },
})
const world = (world: World = {}): Op => ({ do: 'world', world })
const pull: Op = { do: 'pull', count: 9 }
const a: World = { 'svc-a': [1, 1, 1, 1] }
const [CDS, EDS, LDS, SDS] = [0, 1, 2, 3]

/** Lives that went wrong when the checker was written. */
const ONCE_WRONG: readonly [what: string, variant: Variant, life: readonly Op[]][] = [
  [
    'what the client gave up, and what is gone since, comes back when it asks for all',
    'sotw',
    [ask(LDS), world(a), pull, answer(LDS, undefined, ['svc-b']), world(), ask(LDS, ['*'])],
  ],
  [
    'a refusal outlives the wildcard, and makes something be sent that is not wanted',
    'delta',
    [
      world({ ...a, 'svc-d': [1, 0, 0, 0] }),
      ...[ask(CDS), pull, answer(CDS, 'bad'), world(), pull, ask(CDS, [], ['*'])],
      world({ 'svc-d': [1, 0, 0, 0] }),
    ],
  ],
  [
    'the endpoints of a cluster whose state was refused do not follow when it is sent again',
    'sotw',
    [ask(CDS), ask(EDS, ['svc-a']), world(a), pull, answer(EDS), answer(CDS, 'bad', ['svc-a']), pull],
  ],
  [
    'what was refused is withheld from who asks for it again, if it is gone for a moment',
    'sotw',
    [ask(SDS, ['*']), world(a), pull, world(), answer(SDS, 'bad', ['svc-a']), pull, world(a)],
  ],
  [
    'a name that is gone when its client comes back stays there for ever',
    'sotw',
    [ask(CDS, ['svc-a']), world(a), pull, { do: 'reconnect' }, world()],
  ],
  [
    'endpoints that were refused, and gone for a moment, do not follow their cluster',
    'sotw',
    [
      ...[ask(CDS), ask(EDS, ['svc-a']), world(a), pull, answer(EDS, 'bad'), answer(CDS)],
      ...[world({ 'svc-a': [2, 0, 0, 0] }), pull, world({ 'svc-a': [2, 1, 0, 0] })],
    ],
  ],
  [
    'a state that was refused once never comes again, although another came between',
    'sotw',
    [ask(CDS), pull, answer(CDS, 'bad'), world(a), pull, { do: 'time', ms: 6_000 }, world()],
  ],
  [
    'who asks by name for what is gone for a moment is not answered when it is back',
    'sotw',
    [ask(CDS), world(a), pull, world(), answer(CDS, undefined, ['svc-a']), ask(LDS), pull, world(a)],
  ],
]

t.test('lives that once went wrong', async (t) => {
  for (const [what, variant, life] of ONCE_WRONG)
    t.doesNotThrow(
      () => new History({ variant, build: real, resumesNamed: false, neverDangles: false }).run(life),
      what,
    )
})

const only: Readonly<Record<string, Variant>> = {
  'initial_resource_versions are ignored': 'delta',
  'removals are computed from a partial push': 'delta',
  'what does not exist is not said': 'delta',
  'a complete state is not complete': 'sotw',
}

t.test('the checker finds the mistakes of home-made servers', async (t) => {
  for (const [mistake, build] of Object.entries(MUTANTS)) {
    for (const variant of ['sotw', 'delta'] as const) {
      if ((only[mistake] ?? variant) !== variant) continue
      const found = Object.keys(LIVES).find((kind) => check(variant, build, kind, 1_000) !== undefined)
      t.ok(found, `${variant}: ${mistake}`)
    }
  }
})
