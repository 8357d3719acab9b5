// The load generator as a library, for `isthmus bench` and for bench/.
//
//   const load = await LoadGenerator.start({ processes: 1 })
//   const result = await load.run({
//     target: { address: '127.0.0.1', port: 15443, tls: { serverNames: [sni], certificatePem, privateKeyPem, caPem } },
//     phases: [{ name: 'warm-up', seconds: 1, warmUp: true }, { name: 'load', seconds: 5 }],
//     flows: [{ kind: 'requests', name: 'quiet', connections: 32, rate: 500, request: get('/bytes/1000') }],
//   })
//   const { measured } = flowCalled(result, 'quiet')
//   measured.latency.quantile(0.99) // microseconds
//   await load.stop()
//
// A storm is a second flow, `kind: 'handshakes'`, in `phases: ['storm']` of a plan with the phases before, storm and after; the
// quiet flow's `phases` then have a histogram each. The service behind the gateway may be any that speaks HTTP/1.1; `backend.ts`
// is ours.
import type { Sample } from './flow-recorder.ts'
import type { GeneratorFlow } from './generator-messages.ts'
import { GeneratorProcess, type GeneratorRuntime } from './generator-process.ts'
import { type LoadResult, loadResult } from './load-result.ts'
import { type LoadPlan, type LoadRequest, shareOf } from './plan.ts'

/** From the last process that is ready to the begin, so that every process has heard of it. Milliseconds. */
const LEAD_MS = 50

const NOTHING = { cpu: 0, waited: 0, cpuSeconds: 0 }

export interface LoadGeneratorOptions {
  /** Default 1. Each is good for one core. */
  readonly processes?: number
  /** Default: the Node that runs this. */
  readonly runtime?: GeneratorRuntime
}

export interface RunOptions {
  /** Called for each interval of each flow of each process, as it ends. */
  readonly onSample?: (sample: Sample) => void
}

export function get(path: string, host?: string): LoadRequest {
  return { method: 'GET', path, bodyBytes: 0, ...(host === undefined ? {} : { host }) }
}

export function put(path: string, bodyBytes: number, host?: string): LoadRequest {
  return { method: 'PUT', path, bodyBytes, ...(host === undefined ? {} : { host }) }
}

/** Processes that make load, for one plan after the other; what was compiled and opened for one stays warm for the next. */
export class LoadGenerator {
  readonly #processes: readonly GeneratorProcess[]

  private constructor(processes: readonly GeneratorProcess[]) {
    this.#processes = processes
  }

  /** Throws where the runtime cannot be started. */
  static async start({ processes = 1, runtime }: LoadGeneratorOptions = {}): Promise<LoadGenerator> {
    const program = runtime ?? { file: process.execPath, argv: process.execArgv }
    const starting = await Promise.allSettled(
      Array.from({ length: processes }, () => GeneratorProcess.start(program)),
    )
    const started = starting.flatMap((each) => (each.status === 'fulfilled' ? [each.value] : []))
    const failed = starting.find((each) => each.status === 'rejected')
    if (failed === undefined) return new LoadGenerator(started)
    await Promise.all(started.map((each) => each.stop()))
    throw failed.reason
  }

  get pids(): readonly number[] {
    return this.#processes.map(({ pid }) => pid)
  }

  /**
   * Opens the connections of the plan, runs its phases, ends the connections. Where none of the first connections could be opened the
   * phases are left out. Throws with one sentence where the plan cannot be (a certificate that is none), or a process dies.
   */
  async run(plan: LoadPlan, { onSample }: RunOptions = {}): Promise<LoadResult> {
    const samples: Sample[] = []
    for (const each of this.#processes) {
      each.onSample = (sample) => {
        samples.push(sample)
        onSample?.(sample)
      }
    }
    const prepared = await this.#prepare(plan)
    if (isHopeless(prepared.flat())) {
      await this.release()
      return loadResult(
        plan,
        prepared.map((flows) => ({ flows, load: NOTHING })),
        samples,
      )
    }
    const begin = Date.now() + LEAD_MS
    const results = await Promise.all(this.#processes.map((each) => each.run(begin)))
    await this.release()
    return loadResult(plan, results, samples)
  }

  /** Opens the connections of the plan and leaves them as they are, until `release`; its phases are of no meaning. */
  async hold(plan: LoadPlan): Promise<LoadResult> {
    const prepared = await this.#prepare(plan)
    return loadResult(
      plan,
      prepared.map((flows) => ({ flows, load: NOTHING })),
      [],
    )
  }

  /** Ends all connections. */
  async release(): Promise<void> {
    await Promise.all(this.#processes.map((each) => each.release()))
  }

  async stop(): Promise<void> {
    await Promise.all(this.#processes.map((each) => each.stop()))
  }

  async #prepare(plan: LoadPlan): Promise<(readonly GeneratorFlow[])[]> {
    const count = this.#processes.length
    return Promise.all(this.#processes.map((each, index) => each.prepare(shareOf(plan, index, count), index)))
  }
}

/** Not one of the connections that are to be there from the begin is there. */
function isHopeless(flows: readonly GeneratorFlow[]): boolean {
  const phases = flows.flatMap((flow) => flow.phases)
  return phases.some(({ errors }) => errors > 0) && phases.every(({ connections }) => connections === 0)
}
