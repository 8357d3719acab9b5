import { dirname, join } from 'node:path'
import type { Logger } from '../../lib/log.ts'
import { fail, ok, type Result } from '../../lib/result.ts'
import type { DrainReport } from '../engine.ts'
import { type ControlledWorker, ControlServer } from './control.ts'
import { DepartedStats } from './departed-stats.ts'
import { sumReports } from './drain-report.ts'
import type { WorkerStatus } from './worker.ts'
import type { WorkerStats } from './worker-stats.ts'

const ANSWER_MS = 2_000
/** What a drain may take beyond its deadline. */
const DRAIN_GRACE_MS = 5_000

/**
 * Of the server that workers have their resources from: a worker decodes a response in one go, and takes its time to put it in
 * force, because traffic has the precedence there.
 */
export const WORKER_ADS_LIMITS = { maxResponseBytes: 128 * 1024, ackTimeoutMs: 60_000 } as const

interface WorkerAnswer {
  readonly worker: ControlledWorker
  readonly answer: Result<unknown, string>
}

/** The supervisor's workers as one: what is asked is asked of all of them, and the answers are put together. */
export class Workers {
  readonly #control: ControlServer
  readonly #departed: DepartedStats

  constructor(options: { readonly path: string; readonly logger: Logger }) {
    const { path, logger } = options
    // The first supervisor of a launcher has the first workers of it.
    const resume = Number(process.env['ISTHMUS_GENERATION'] ?? 1) > 1
    this.#departed = new DepartedStats({ path: join(dirname(path), 'departed.json'), resume })
    this.#control = new ControlServer({
      path,
      onWorker: (worker, connected) => {
        logger.info({ worker: worker.hello }, connected ? 'worker connected' : 'worker gone')
        if (!connected) this.#departed.gone(worker)
      },
    })
  }

  /** Rejects when another process has the socket. */
  listen(): Promise<void> {
    return this.#control.listen()
  }

  close(): Promise<void> {
    return this.#control.close()
  }

  /** By slot, older ones of a slot first. One that does not answer is left out. */
  async statuses(): Promise<readonly WorkerStatus[]> {
    const answers = await this.#ask('status', null, ANSWER_MS)
    return answers.flatMap(({ answer }) => (answer.ok ? [answer.value as WorkerStatus] : []))
  }

  /** The same for their counters; the last entry, once a worker has left, is the sum of those that have. */
  async stats(): Promise<readonly WorkerStats[]> {
    const answers = await this.#ask('stats', null, ANSWER_MS)
    const live = answers.flatMap(({ answer }) => (answer.ok ? [answer.value as WorkerStats] : []))
    for (const stats of live) this.#departed.answered(stats)
    return [...live, ...this.#departed.sum(this.#control.workers())]
  }

  /**
   * What is missing before traffic may be sent here. One worker that serves is enough: the port is shared, so it is served
   * whichever of them fails.
   */
  async pending(): Promise<string[]> {
    // Asked often, so not for the whole status: that of ten thousand services is megabytes for the worker to write.
    const answers = await this.#ask('pending', null, ANSWER_MS)
    if (answers.length === 0) return ['worker: none is connected']
    const pending = answers.map(({ answer }) =>
      answer.ok ? (answer.value as readonly string[]) : [`worker: ${answer.error}`],
    )
    return pending.some((one) => one.length === 0) ? [] : [...new Set(pending.flat())]
  }

  /** Resolves with the sum of the reports once all have drained. The error is one sentence. */
  async drain(deadlineMs: number, delayMs: number): Promise<Result<DrainReport, string>> {
    const answers = await this.#ask('drain', { deadlineMs, delayMs }, delayMs + deadlineMs + DRAIN_GRACE_MS)
    const failed = failures(answers)
    if (failed !== undefined) return fail(failed)
    return ok(sumReports(answers.flatMap(({ answer }) => (answer.ok ? [answer.value as DrainReport] : []))))
  }

  async setLevel(level: string): Promise<Result<undefined, string>> {
    const failed = failures(await this.#ask('logging', { level }, ANSWER_MS))
    return failed === undefined ? ok(undefined) : fail(failed)
  }

  #ask(method: string, params: unknown, timeoutMs: number): Promise<WorkerAnswer[]> {
    return Promise.all(
      this.#control.workers().map(async (worker) => {
        return { worker, answer: await worker.request(method, params, timeoutMs) }
      }),
    )
  }
}

/** Why not all did as they were asked; undefined when they did. */
function failures(answers: readonly WorkerAnswer[]): string | undefined {
  if (answers.length === 0) return 'no worker is connected'
  const failed = answers.flatMap(({ worker: { hello }, answer }) =>
    answer.ok ? [] : [`worker ${hello.slot} (pid ${hello.pid}): ${answer.error}`],
  )
  return failed.length === 0 ? undefined : failed.join('; ')
}
