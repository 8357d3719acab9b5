import { chmodSync } from 'node:fs'
import { createConnection, createServer, type Server, type Socket } from 'node:net'
import { Backoff } from '../../lib/backoff.ts'
import { type Clock, systemClock } from '../../lib/clock.ts'
import { fail, ok, type Result } from '../../lib/result.ts'
import { freeSocketPath } from './unix-socket.ts'

// Between supervisor and worker, beside ADS: the supervisor asks, the worker answers. One JSON object per line on a unix
// socket: {"id":1,"method":"status","params":…} and {"id":1,"result":…} or {"id":1,"error":"…"}.

/** A line longer than this is not one of ours. A status names every endpoint, so it may be long. */
const MAX_LINE = 64 * 1024 * 1024

/** What the worker does for each method; a rejection is sent back as its message. */
export type ControlHandlers = Readonly<Record<string, (params: unknown) => Promise<unknown>>>

/** The supervisor's end: it listens, the worker dials, so that either may die and come back. */
export class ControlServer {
  readonly #path: string
  readonly #onWorker: (connected: boolean) => void
  readonly #server: Server
  readonly #sockets = new Set<Socket>()
  readonly #waiting = new Map<number, (answer: Result<unknown, string>) => void>()
  #worker: Socket | undefined
  #lastId = 0

  constructor(options: { readonly path: string; readonly onWorker?: (connected: boolean) => void }) {
    this.#path = options.path
    this.#onWorker = options.onWorker ?? (() => {})
    this.#server = createServer((socket) => this.#accept(socket))
  }

  async listen(): Promise<void> {
    await freeSocketPath(this.#path)
    await new Promise<void>((resolve, reject) => {
      this.#server.once('error', reject)
      this.#server.listen(this.#path, resolve)
    })
    chmodSync(this.#path, 0o600)
  }

  /** Asks the worker. The error is one sentence: no worker, no answer in time, or what the worker said. */
  request(method: string, params: unknown, timeoutMs: number): Promise<Result<unknown, string>> {
    const worker = this.#worker
    if (worker === undefined) return Promise.resolve(fail('the worker is not connected'))
    const id = ++this.#lastId
    return new Promise((resolve) => {
      const finish = (answer: Result<unknown, string>) => {
        clearTimeout(timer)
        this.#waiting.delete(id)
        resolve(answer)
      }
      const timer = setTimeout(
        () => finish(fail(`the worker did not answer within ${timeoutMs} ms`)),
        timeoutMs,
      )
      this.#waiting.set(id, finish)
      worker.write(`${JSON.stringify({ id, method, params })}\n`)
    })
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy()
    await new Promise<void>((resolve) => this.#server.close(() => resolve()))
  }

  /** The last to connect is the worker: an older connection is that of a dead one. */
  #accept(socket: Socket): void {
    this.#sockets.add(socket)
    this.#abandon()
    this.#worker = socket
    socket.on('error', () => {})
    onLines(socket, (line) => this.#answered(line))
    socket.once('close', () => {
      this.#sockets.delete(socket)
      if (this.#worker !== socket) return
      this.#worker = undefined
      this.#abandon()
      this.#onWorker(false)
    })
    this.#onWorker(true)
  }

  #abandon(): void {
    for (const finish of [...this.#waiting.values()]) finish(fail('the worker went away'))
  }

  #answered(line: unknown): void {
    const { id, result, error } = line as { id?: number; result?: unknown; error?: string }
    this.#waiting.get(id ?? 0)?.(error === undefined ? ok(result) : fail(error))
  }
}

/** The worker's end: dials until it is stopped, and answers. */
export class ControlClient {
  readonly #path: string
  readonly #handlers: ControlHandlers
  readonly #clock: Clock
  readonly #backoff = new Backoff({ baseMs: 50, maxMs: 1_000 })
  #socket: Socket | undefined
  #cancel: (() => void) | undefined
  #stopped = false

  constructor(options: {
    readonly path: string
    readonly handlers: ControlHandlers
    readonly clock?: Clock
  }) {
    this.#path = options.path
    this.#handlers = options.handlers
    this.#clock = options.clock ?? systemClock
  }

  start(): void {
    const socket = createConnection(this.#path)
    this.#socket = socket
    socket.on('connect', () => this.#backoff.reset())
    socket.on('error', () => {})
    socket.once('close', () => {
      if (!this.#stopped) this.#cancel = this.#clock.after(this.#backoff.next(), () => this.start())
    })
    onLines(socket, (line) => void this.#handle(socket, line))
  }

  stop(): void {
    this.#stopped = true
    this.#cancel?.()
    this.#socket?.destroy()
  }

  async #handle(socket: Socket, line: unknown): Promise<void> {
    const { id, method = '', params } = line as { id?: number; method?: string; params?: unknown }
    const answer = await this.#call(method, params)
    if (!socket.destroyed) socket.write(`${JSON.stringify({ id, ...answer })}\n`)
  }

  async #call(method: string, params: unknown): Promise<{ result: unknown } | { error: string }> {
    const handler = Object.hasOwn(this.#handlers, method) ? this.#handlers[method] : undefined
    if (handler === undefined) return { error: `the worker knows no "${method}"` }
    try {
      return { result: (await handler(params)) ?? null }
    } catch (error) {
      return { error: error instanceof Error ? error.message : String(error) }
    }
  }
}

/** Calls back for each line of JSON; a peer that sends anything else is cut off. */
function onLines(socket: Socket, callback: (line: unknown) => void): void {
  let parts: string[] = []
  let length = 0
  socket.setEncoding('utf8')
  socket.on('data', (chunk: string) => {
    const lines = chunk.split('\n')
    parts.push(lines[0] ?? '')
    length += chunk.length
    if (length > MAX_LINE) return void socket.destroy()
    for (const next of lines.slice(1)) {
      const line = parseLine(parts.join(''))
      parts = [next]
      length = next.length
      if (line === undefined) return void socket.destroy()
      callback(line)
    }
  })
}

function parseLine(text: string): object | undefined {
  try {
    const line: unknown = JSON.parse(text)
    return typeof line === 'object' && line !== null ? line : undefined
  } catch {
    return undefined
  }
}
