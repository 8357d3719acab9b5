// What the command line asks for.
import { parseArgs } from 'node:util'
import { TARGETS } from './targets.ts'

export const USAGE = `npm run bench [-- options]          worker CPU and memory of every target
npm run bench:peers [-- options]    our runtimes beside the peers: latency and profiles as well, and what we want held against it
  --quick            few and short rounds: shows that everything works, its figures say little
  --seconds N        of load for each case and target in a round
  --rounds N         targets take turns, forwards and backwards: an even number is fair
  --memory-rounds N  each with new processes
  --latency-rounds N of an open loop at half of Envoy's capacity, the same rate for everybody
  --targets a,b      of ${TARGETS.map(({ name }) => name).join(', ')} (default: all that can be run);
                     ours-node@DIR is that of another checkout, ours-node:--cpu-prof:--FLAG has flags for its runtime
  --cases TEXT       only those whose name has the text
  --json FILE        write the figures of every round
  --markdown FILE    fill the tables of a document, and draw its plots beside it
  --from FILE        measure nothing: report what --json wrote. With --and FILE,FILE what other benchmarks wrote stands in the document too`

export interface Plan {
  /** Latency, profiles and goals as well. */
  readonly peers: boolean
  readonly quick: boolean
  /** What the name of a case must have in it. */
  readonly cases: string
  readonly seconds: number
  readonly rounds: number
  readonly memoryRounds: number
  /** Of the open loop. */
  readonly latencyRounds: number
  readonly latencySeconds: number
  /** Of perf, for each target and load; 0: none. */
  readonly profileSeconds: number
  /** Connections held. */
  readonly idle: number
  readonly stalled: number
  /** Longest wait for resident memory to settle. */
  readonly settleMs: number
}

export interface Options {
  readonly plan: Plan
  readonly targets: readonly string[]
  readonly json?: string
  readonly markdown?: string
  readonly from?: string
  readonly and: readonly string[]
}

const FULL: Plan = {
  peers: false,
  quick: false,
  cases: '',
  seconds: 1,
  rounds: 8,
  memoryRounds: 3,
  latencyRounds: 0,
  latencySeconds: 1.5,
  profileSeconds: 0,
  idle: 1_000,
  stalled: 200,
  settleMs: 4_000,
}

const QUICK: Plan = {
  ...FULL,
  quick: true,
  seconds: 0.2,
  rounds: 2,
  memoryRounds: 1,
  idle: 50,
  stalled: 10,
  settleMs: 300,
}

/** More rounds, each shorter, since every figure is to have an interval; twelve minutes at most on two cores. */
const PEERS: Plan = {
  ...FULL,
  peers: true,
  seconds: 0.5,
  rounds: 12,
  memoryRounds: 6,
  latencyRounds: 8,
  profileSeconds: 1.5,
  idle: 1_000,
  stalled: 100,
  settleMs: 1_500,
}

const QUICK_PEERS: Plan = {
  ...QUICK,
  peers: true,
  latencyRounds: 1,
  latencySeconds: 0.4,
}

const PEERS_TARGETS = ['ours-node', 'ours-bun', 'envoy', 'haproxy', 'nginx']

/** Undefined where help is asked for; throws a sentence where the line is wrong. */
export function readOptions(args: readonly string[]): Options | undefined {
  const { values } = parseArgs({
    args: [...args],
    options: {
      peers: { type: 'boolean', default: false },
      quick: { type: 'boolean', default: false },
      seconds: { type: 'string' },
      rounds: { type: 'string' },
      'memory-rounds': { type: 'string' },
      'latency-rounds': { type: 'string' },
      targets: { type: 'string' },
      cases: { type: 'string', default: '' },
      json: { type: 'string' },
      markdown: { type: 'string' },
      from: { type: 'string' },
      and: { type: 'string', default: '' },
      help: { type: 'boolean', default: false },
    },
  })
  if (values.help) return undefined
  const full = values.peers ? PEERS : FULL
  const base = values.quick ? (values.peers ? QUICK_PEERS : QUICK) : full
  const number = (
    name: 'seconds' | 'rounds' | 'memory-rounds' | 'latency-rounds',
    otherwise: number,
  ): number => {
    const value = Number(values[name] ?? otherwise)
    if (!Number.isFinite(value) || value < 0)
      throw new Error(`--${name} is to be a number, not ${values[name]}`)
    return value
  }
  return {
    plan: {
      ...base,
      cases: values.cases,
      seconds: number('seconds', base.seconds),
      rounds: number('rounds', base.rounds),
      memoryRounds: number('memory-rounds', base.memoryRounds),
      latencyRounds: number('latency-rounds', base.latencyRounds),
    },
    targets: values.targets?.split(',') ?? (values.peers ? PEERS_TARGETS : TARGETS.map(({ name }) => name)),
    ...(values.json === undefined ? {} : { json: values.json }),
    ...(values.markdown === undefined ? {} : { markdown: values.markdown }),
    ...(values.from === undefined ? {} : { from: values.from }),
    and: values.and.split(',').filter(Boolean),
  }
}
