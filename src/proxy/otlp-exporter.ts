// Sends spans to an OpenTelemetry collector: OTLP/HTTP, JSON. Loaded only where it is asked for.
import { Agent as HttpAgent, request as httpRequest } from 'node:http'
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https'
import { Backoff } from '../lib/backoff.ts'
import { type Clock, systemClock } from '../lib/clock.ts'
import type { Logger } from '../lib/log.ts'
import type { AccessLogEntry } from './access-log.ts'
import { exportRequest, type SpanResource } from './otlp-spans.ts'

export interface OtlpExporterOptions {
  /** Of the collector; `/v1/traces` where it has no path. */
  readonly endpoint: URL
  /** Share of the connections, 0 to 1. */
  readonly sample: number
  readonly resource: SpanResource
  readonly logger: Logger
  readonly clock?: Clock
  readonly random?: () => number
  /** How many spans wait for a slow collector before new ones are dropped. Default 2,048. */
  readonly capacity?: number
}

/** Few at a time: putting them together holds up the event loop for a third of a millisecond. */
const BATCH = 64
const FLUSH_MS = 1_000
const TIMEOUT_MS = 10_000
/** Worth another try (OTLP/HTTP, section Failures). */
const RETRYABLE: ReadonlySet<number> = new Set([429, 502, 503, 504])

/**
 * One span for each sampled connection, off the path of traffic: a bounded queue, one request at a time, and what a collector does
 * not take in time is dropped and counted. Traffic never waits for it.
 */
export class OtlpExporter {
  readonly #options: OtlpExporterOptions
  readonly #url: URL
  readonly #clock: Clock
  readonly #random: () => number
  readonly #capacity: number
  readonly #backoff = new Backoff({ baseMs: 500, maxMs: 30_000 })
  readonly #agent: HttpAgent | HttpsAgent
  #queue: AccessLogEntry[] = []
  #sending: Promise<boolean> | undefined
  #closed = false
  #cancel: (() => void) | undefined
  #problem = ''
  #sent = 0
  #dropped = 0

  constructor(options: OtlpExporterOptions) {
    const { clock = systemClock, random = Math.random, capacity = 2_048 } = options
    this.#options = options
    this.#clock = clock
    this.#random = random
    this.#capacity = capacity
    this.#url = new URL(options.endpoint)
    if (this.#url.pathname === '/') this.#url.pathname = '/v1/traces'
    const keep = { keepAlive: true, maxSockets: 1 }
    this.#agent = this.#url.protocol === 'https:' ? new HttpsAgent(keep) : new HttpAgent(keep)
  }

  /** Spans that a collector has taken, and those that were lost. */
  get counts(): { readonly sent: number; readonly dropped: number } {
    return { sent: this.#sent, dropped: this.#dropped }
  }

  record(entry: AccessLogEntry): void {
    const { sample } = this.#options
    if (sample < 1 && this.#random() >= sample) return
    if (this.#queue.length >= this.#capacity) {
      this.#dropped += 1
      return
    }
    this.#queue.push(entry)
    if (this.#sending !== undefined || this.#closed) return
    if (this.#queue.length >= BATCH) setImmediate(() => void this.#flush())
    else this.#cancel ??= this.#clock.after(FLUSH_MS, () => void this.#flush())
  }

  /** Sends what is left, for at most `ms`. */
  async close(ms: number): Promise<void> {
    this.#closed = true
    this.#cancel?.()
    const deadline = this.#clock.now() + ms
    const cancel = this.#clock.after(ms, () => this.#agent.destroy())
    await this.#sending
    while (this.#queue.length > 0) {
      const leftMs = deadline - this.#clock.now()
      if (leftMs <= 0 || !(await this.#send(leftMs))) break
    }
    cancel()
    this.#dropped += this.#queue.length
    this.#queue = []
    this.#agent.destroy()
  }

  async #flush(): Promise<void> {
    this.#cancel?.()
    this.#cancel = undefined
    if (this.#sending !== undefined || this.#closed || this.#queue.length === 0) return
    this.#sending = this.#send(TIMEOUT_MS)
    const taken = await this.#sending
    this.#sending = undefined
    if (this.#closed || this.#queue.length === 0) return
    const waitMs = taken ? (this.#queue.length >= BATCH ? 0 : FLUSH_MS) : this.#backoff.next()
    this.#cancel = this.#clock.after(waitMs, () => void this.#flush())
  }

  /** One batch; false when it is worth another try later, and is back in the queue. */
  async #send(timeoutMs: number): Promise<boolean> {
    const batch = this.#queue.splice(0, BATCH)
    const status = await this.#post(exportRequest(batch, this.#options.resource), timeoutMs)
    if (typeof status === 'number' && status < 300) {
      this.#sent += batch.length
      this.#say('')
      this.#backoff.reset()
      return true
    }
    this.#say(typeof status === 'number' ? `it answered ${status}` : status)
    const again = typeof status === 'string' || RETRYABLE.has(status)
    if (again) this.#queue = [...batch, ...this.#queue].slice(0, this.#capacity)
    else this.#dropped += batch.length
    return !again
  }

  /** The status of the answer, or why there is none. */
  #post(body: string, timeoutMs: number): Promise<number | string> {
    const request = this.#url.protocol === 'https:' ? httpsRequest : httpRequest
    const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) }
    return new Promise((resolve) => {
      const sent = request(this.#url, { method: 'POST', agent: this.#agent, headers }, (response) => {
        // Not `end`: an answer that is cut off has none.
        response.on('error', () => {}).resume()
        response.once('close', () => {
          cancel()
          resolve(response.statusCode ?? 0)
        })
      })
      const cancel = this.#clock.after(timeoutMs, () => sent.destroy(new Error('no answer in time')))
      sent.on('error', (error: NodeJS.ErrnoException) => {
        cancel()
        resolve(error.code ?? error.message)
      })
      sent.end(body)
    })
  }

  /** Said once, not at each attempt. */
  #say(problem: string): void {
    if (problem === this.#problem) return
    this.#problem = problem
    const { logger } = this.#options
    const collector = this.#url.origin
    if (problem === '') logger.info({ collector }, 'the collector takes spans again')
    else logger.warn({ collector, problem }, 'spans cannot be sent')
  }
}
