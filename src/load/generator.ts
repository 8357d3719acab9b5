// A process that makes load, started by `generator-process.ts`: it is told what on standard input, and ends with it.
import { keepHeapSlack } from '../lib/heap-slack.ts'
import { onLines } from '../proxy/process/json-lines.ts'
import { Dialer } from './dialer.ts'
import { FlowRecorder } from './flow-recorder.ts'
import { ChurnFlow } from './flows/churn-flow.ts'
import type { Flow, FlowContext } from './flows/flow.ts'
import { HandshakesFlow } from './flows/handshakes-flow.ts'
import { HeldFlow } from './flows/held-flow.ts'
import { RequestsFlow } from './flows/requests-flow.ts'
import type { FromGenerator, GeneratorFlow, ToGenerator } from './generator-messages.ts'
import {
  DEFAULT_GRACE_MS,
  DEFAULT_INTERVAL_MS,
  DEFAULT_TIMEOUT_MS,
  type FlowPlan,
  type LoadPlan,
  planMs,
  spanOf,
} from './plan.ts'
import { ProcessMeter } from './process-load.ts'
import { Waker } from './waker.ts'

/** How often connections are looked at for what is overdue. */
const SWEEP_MS = 100

const say = (message: FromGenerator): void => void process.stdout.write(`${JSON.stringify(message)}\n`)

class Generator {
  readonly #plan: LoadPlan
  readonly #flows: readonly Flow[]
  readonly #waker: Waker | undefined
  readonly #sweeper: NodeJS.Timeout

  constructor(plan: LoadPlan, dialer: Dialer, index: number) {
    this.#plan = plan
    if (plan.flows.some((flow) => 'rate' in flow && flow.rate !== undefined))
      this.#waker = new Waker(() => this.#tick())
    const intervalMs = plan.intervalMs ?? DEFAULT_INTERVAL_MS
    this.#flows = plan.flows.map((flow) =>
      flowOf(flow, {
        dialer,
        recorder: new FlowRecorder(flow.name, plan.phases, intervalMs, (sample) => say({ sample })),
        timeoutMs: plan.timeoutMs ?? DEFAULT_TIMEOUT_MS,
        index,
        arm: (ms) => this.#arm(ms),
      }),
    )
    this.#sweeper = setInterval(() => {
      const now = performance.now()
      for (const flow of this.#flows) {
        flow.sweep(now)
        flow.recorder.roll(now)
      }
    }, SWEEP_MS)
  }

  async prepare(): Promise<void> {
    await Promise.all(this.#flows.map((flow) => flow.prepare()))
    say({ prepared: this.#results() })
  }

  async run(beginEpochMs: number): Promise<void> {
    const plan = this.#plan
    const beginMs = beginEpochMs - performance.timeOrigin
    const endMs = beginMs + planMs(plan)
    for (const [index, flow] of this.#flows.entries()) {
      const { fromMs, untilMs } = spanOf(plan.flows[index] as FlowPlan, plan.phases)
      flow.recorder.begin(beginMs)
      flow.begin(beginMs + fromMs, beginMs + untilMs)
      void at(beginMs + fromMs).then((now) => flow.tick(now))
    }
    const warmUp = plan.phases.findIndex(({ warmUp }) => warmUp !== true)
    await at(beginMs + planMs({ phases: plan.phases.slice(0, Math.max(0, warmUp)) }))
    const meter = new ProcessMeter()
    await at(endMs)
    const load = meter.measure()
    await this.#finish()
    say({ result: { flows: this.#results(), load } })
  }

  async release(): Promise<void> {
    clearInterval(this.#sweeper)
    await Promise.all(this.#flows.map((flow) => flow.release()))
    await this.#waker?.close()
  }

  /** Waits for what is under way, but not for ever; what is not done by then is counted as it is. */
  async #finish(): Promise<void> {
    const graceMs = this.#plan.graceMs ?? DEFAULT_GRACE_MS
    const { promise: late, resolve } = Promise.withResolvers<void>()
    const timer = setTimeout(resolve, graceMs)
    await Promise.race([late, Promise.all(this.#flows.map((flow) => flow.finish()))])
    clearTimeout(timer)
    const now = performance.now()
    for (const flow of this.#flows) {
      flow.giveUp(now)
      flow.recorder.roll(now)
    }
  }

  /** The soonest of what the flows want: each says again what it waits for when it has its turn. */
  #arm(ms: number): void {
    if (ms < this.#next) {
      this.#next = ms
      this.#waker?.arm(ms)
    }
  }
  #next = Number.POSITIVE_INFINITY

  #tick(): void {
    this.#next = Number.POSITIVE_INFINITY
    const now = performance.now()
    for (const flow of this.#flows) flow.tick(now)
  }

  #results(): GeneratorFlow[] {
    return this.#flows.map(({ recorder }) => ({ name: recorder.flow, phases: recorder.result() }))
  }
}

function flowOf(plan: FlowPlan, context: FlowContext): Flow {
  switch (plan.kind) {
    case 'requests':
      return new RequestsFlow(plan, context)
    case 'handshakes':
      return new HandshakesFlow(plan, context)
    case 'churn':
      return new ChurnFlow(plan, context)
    default:
      return new HeldFlow(plan, context)
  }
}

/** Resolves with the time once it is not before `ms`. */
async function at(ms: number): Promise<number> {
  for (;;) {
    const now = performance.now()
    if (now >= ms) return now
    await new Promise((later) => setTimeout(later, Math.ceil(ms - now)))
  }
}

let generator: Generator | undefined

async function take(message: ToGenerator): Promise<void> {
  if ('prepare' in message) {
    const { prepare: plan, index } = message
    // Whatever was held before and not released.
    await generator?.release()
    const dialer = Dialer.create(plan.target)
    if (!dialer.ok) return say({ refused: dialer.error })
    generator = new Generator(plan, dialer.value, index)
    return generator.prepare()
  }
  if ('begin' in message) return generator?.run(message.begin)
  await generator?.release()
  generator = undefined
  say({ released: true })
}

keepHeapSlack()
onLines(process.stdin as never, (message) => void take(message as ToGenerator))
process.stdin.on('end', () => process.exit(0))
// Ctrl-C reaches the whole group: it is the parent who decides what it means.
process.on('SIGINT', () => {})
say({ ready: true })
