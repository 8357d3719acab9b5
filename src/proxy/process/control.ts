import { chmodSync } from 'node:fs'
import { createConnection, createServer, type Server, type Socket } from 'node:net'
import { Backoff } from '../../lib/backoff.ts'
import { type Clock, systemClock } from '../../lib/clock.ts'
import { fail, ok, type Result } from '../../lib/result.ts'
import { onLines } from './json-lines.ts'
import { freeSocketPath } from './unix-socket.ts'

// Between supervisor and workers, beside ADS: a worker says who it is, the supervisor asks, the worker answers. One JSON object per
// line on a unix socket: {"hello":{…}}, then {"id":1,"method":"status","params":…} and {"id":1,"result":…} or {"id":1,"error":"…"}; at the
// end, if it has one, {"parting":…}, which nobody asked for.

/** Who a worker is. */
export interface WorkerHello {
  readonly pid: number
  /** Its place among the workers of the pod, from 0; a successor has the slot of the one before it. */
  readonly slot: number
  /** How many workers its slot has had, this one included. */
  readonly generation: number
  /** `node` or `bun`, and its version. */
  readonly runtime: string
  readonly version: string
}

/** How long a worker that leaves waits for its last word to be heard. */
const PARTING_MS = 500

/** What a worker does for each method; a rejection is sent back as its message. */
export type ControlHandlers = Readonly<Record<string, (params: unknown) => Promise<unknown>>>

/** A worker that has said who it is. */
export interface ControlledWorker {
  readonly hello: WorkerHello
  /** What it said of itself before it left; undefined as long as it has not, or when it left without a word. */
  readonly parting: unknown
  /** The error is one sentence: no answer in time, the worker went away, or what it said. */
  request(method: string, params: unknown, timeoutMs: number): Promise<Result<unknown, string>>
}

export interface ControlServerOptions {
  readonly path: string
  readonly onWorker?: (worker: ControlledWorker, connected: boolean) => void
}

/** The supervisor's end: it listens, the workers dial, so that each may die and come back. */
export class ControlServer {
  readonly #path: string
  readonly #onWorker: (worker: ControlledWorker, connected: boolean) => void
  readonly #server: Server
  readonly #sockets = new Set<Socket>()
  /** By pid. */
  readonly #workers = new Map<number, WorkerConnection>()

  constructor(options: ControlServerOptions) {
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

  /** Those that are connected, by slot, older ones of a slot first. */
  workers(): readonly ControlledWorker[] {
    return [...this.#workers.values()].sort(
      (a, b) => a.hello.slot - b.hello.slot || a.hello.generation - b.hello.generation,
    )
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy()
    await new Promise<void>((resolve) => this.#server.close(() => resolve()))
  }

  #accept(socket: Socket): void {
    let worker: WorkerConnection | undefined
    this.#sockets.add(socket)
    socket.on('error', () => {})
    onLines(socket, (line) => {
      if (worker !== undefined) return worker.answered(line)
      const hello = parseHello(line)
      if (hello === undefined) return void socket.destroy()
      worker = new WorkerConnection(hello, socket)
      // A worker that dials again has lost its older connection, whether or not we have heard of that.
      this.#workers.get(hello.pid)?.abandon()
      this.#workers.set(hello.pid, worker)
      this.#onWorker(worker, true)
    })
    socket.once('close', () => {
      this.#sockets.delete(socket)
      if (worker === undefined) return
      worker.abandon()
      if (this.#workers.get(worker.hello.pid) !== worker) return
      this.#workers.delete(worker.hello.pid)
      this.#onWorker(worker, false)
    })
  }
}

class WorkerConnection implements ControlledWorker {
  readonly hello: WorkerHello
  parting: unknown
  readonly #socket: Socket
  readonly #waiting = new Map<number, (answer: Result<unknown, string>) => void>()
  #lastId = 0

  constructor(hello: WorkerHello, socket: Socket) {
    this.hello = hello
    this.#socket = socket
  }

  request(method: string, params: unknown, timeoutMs: number): Promise<Result<unknown, string>> {
    if (this.#socket.destroyed) return Promise.resolve(fail('the worker went away'))
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
      this.#socket.write(`${JSON.stringify({ id, method, params })}\n`)
    })
  }

  answered(line: object): void {
    const { id, result, error } = line as { id?: number; result?: unknown; error?: string }
    if ('parting' in line) this.parting = line.parting
    this.#waiting.get(id ?? 0)?.(error === undefined ? ok(result) : fail(error))
  }

  /** Fails what waits, and takes no more. */
  abandon(): void {
    this.#socket.destroy()
    for (const finish of [...this.#waiting.values()]) finish(fail('the worker went away'))
  }
}

/** The worker's end: dials until it is stopped, says who it is, and answers. */
export class ControlClient {
  readonly #path: string
  readonly #hello: WorkerHello
  readonly #handlers: ControlHandlers
  readonly #clock: Clock
  readonly #backoff = new Backoff({ baseMs: 50, maxMs: 1_000 })
  #socket: Socket | undefined
  #cancel: (() => void) | undefined
  #stopped = false

  constructor(options: {
    readonly path: string
    readonly hello: WorkerHello
    readonly handlers: ControlHandlers
    readonly clock?: Clock
  }) {
    this.#path = options.path
    this.#hello = options.hello
    this.#handlers = options.handlers
    this.#clock = options.clock ?? systemClock
  }

  start(): void {
    const socket = createConnection(this.#path)
    this.#socket = socket
    socket.on('connect', () => {
      this.#backoff.reset()
      socket.write(`${JSON.stringify({ hello: this.#hello })}\n`)
    })
    socket.on('error', () => {})
    socket.once('close', () => {
      if (!this.#stopped) this.#cancel = this.#clock.after(this.#backoff.next(), () => this.start())
    })
    onLines(socket, (line) => void this.#handle(socket, line))
  }

  /** Leaves; with a last word, where there is somebody to hear it. */
  async stop(parting?: object): Promise<void> {
    this.#stopped = true
    this.#cancel?.()
    const socket = this.#socket
    if (parting !== undefined && socket?.readyState === 'open') {
      await new Promise<void>((resolve) => {
        socket.once('close', resolve)
        socket.end(`${JSON.stringify({ parting })}\n`)
        setTimeout(resolve, PARTING_MS)
      })
    }
    socket?.destroy()
  }

  async #handle(socket: Socket, line: object): Promise<void> {
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

function parseHello(line: object): WorkerHello | undefined {
  const { hello } = line as { hello?: Partial<WorkerHello> }
  if (typeof hello !== 'object' || hello === null) return undefined
  const { pid, slot, generation, runtime, version } = hello
  const whole =
    typeof pid === 'number' &&
    typeof slot === 'number' &&
    typeof generation === 'number' &&
    typeof runtime === 'string' &&
    typeof version === 'string'
  return whole ? { pid, slot, generation, runtime, version } : undefined
}
