// Traffic that knows what it must get back: flows that stay open and short calls, each over several ways; and callers who must
// never be heard.
import { once } from 'node:events'
import { connect as connectPlain } from 'node:net'
import { setTimeout as sleep } from 'node:timers/promises'
import {
  type ConnectionOptions,
  connect,
  createSecureContext,
  type SecureContext,
  type TLSSocket,
} from 'node:tls'
import { HEADER_BYTES, header, patternAt, wrongBytes } from './pattern.ts'

/** A call, or one exchange of a flow, that takes longer than this is lost. */
const CALL_MS = 8_000
const EXCHANGE_BYTES = 16_384
const EXCHANGE_EVERY_MS = 15
const CALL_EVERY_MS = 60
/** Whoever was refused does not come back at once: else the count says how often he tried, not how long nobody served him. */
const AFTER_LOSS_MS = 100
const INTRUSION_EVERY_MS = 90

/** One way in: where to dial, and which name to ask for. */
export interface Way {
  readonly name: string
  readonly host: string
  readonly port: number
  readonly serverName: string
}

export interface Credentials {
  readonly cert: string
  readonly key: string
}

/** Somebody who must not be heard: a stranger, a denied caller, a good one at a service that is not his. */
export interface Intruder {
  readonly name: string
  readonly host: string
  readonly port: number
  /** Undefined: speaks plain HTTP. */
  readonly tls?: ConnectionOptions
}

export interface Tally {
  opened: number
  /** Broken, cut, or not answered in time. */
  lost: number
  /** Of these, those that had been established and carried bytes before. */
  established: number
  wrongBytes: number
  /** Bytes that came back right. */
  bytes: number
  /** How connections were lost, and how often. */
  readonly reasons: Map<string, number>
}

export class Load {
  readonly tally: Tally = { opened: 0, lost: 0, established: 0, wrongBytes: 0, bytes: 0, reasons: new Map() }
  readonly #context: SecureContext
  readonly #ways: readonly Way[]
  readonly #intruders: readonly Intruder[]
  readonly #flows: Flow[] = []
  readonly #running: Promise<void>[] = []
  readonly #calls = new Map<string, { startedMs: number; endedMs: number }>()
  readonly #random: () => number
  #connections = 0
  #stopped = false
  intrusions = 0

  constructor(options: {
    readonly credentials: Credentials & { readonly ca: string }
    readonly ways: readonly Way[]
    readonly intruders: readonly Intruder[]
    readonly random: () => number
  }) {
    this.#context = createSecureContext(options.credentials)
    this.#ways = options.ways
    this.#intruders = options.intruders
    this.#random = options.random
  }

  /** `flowsPerWay` connections that stay, and one call after another on each way. */
  start(flowsPerWay: number): void {
    for (const way of this.#ways) {
      for (let i = 0; i < flowsPerWay; i += 1) {
        const flow = new Flow(way)
        this.#flows.push(flow)
        this.#running.push(this.#keepFlowing(flow))
      }
      this.#running.push(this.#keepCalling(way))
    }
    for (const intruder of this.#intruders) this.#running.push(this.#keepIntruding(intruder))
  }

  async stop(): Promise<void> {
    this.#stopped = true
    for (const flow of this.#flows) flow.socket?.destroy()
    await Promise.all(this.#running)
  }

  /** Resolves when each flow has got bytes, and on each way a call has succeeded, that began after `sinceMs`. */
  async whole(sinceMs: number, deadlineMs: number): Promise<number> {
    for (;;) {
      const waiting = this.notWhole(sinceMs)
      if (waiting.length === 0) return Math.max(...this.#recoveries(sinceMs)) - sinceMs
      if (Date.now() - sinceMs > deadlineMs) throw new Error(`not recovered: ${waiting.join(', ')}`)
      await sleep(10)
    }
  }

  notWhole(sinceMs: number): string[] {
    const flows = this.#flows.filter(({ exchangedMs }) => exchangedMs < sinceMs)
    const ways = this.#ways.filter(({ name }) => (this.#calls.get(name)?.startedMs ?? 0) < sinceMs)
    return [
      ...flows.map(({ way }) => `a flow over ${way.name}`),
      ...ways.map(({ name }) => `calls over ${name}`),
    ]
  }

  /** Flows, of one way or of all, that have been up since before `sinceMs`. */
  keptSince(sinceMs: number, way?: string): number {
    const ofWay = this.#flows.filter((flow) => way === undefined || flow.way.name === way)
    return ofWay.filter(({ openedMs }) => openedMs > 0 && openedMs < sinceMs).length
  }

  /** Flows that have got bytes since. */
  flowingSince(sinceMs: number): number {
    return this.#flows.filter(({ exchangedMs }) => exchangedMs >= sinceMs).length
  }

  /** Who the good callers are, for a connection outside the load. */
  get clientOptions(): ConnectionOptions {
    return { secureContext: this.#context, checkServerIdentity: () => undefined }
  }

  get flows(): number {
    return this.#flows.length
  }

  #recoveries(sinceMs: number): number[] {
    return [
      ...this.#flows.map(({ wholeMs }) => Math.max(wholeMs, sinceMs)),
      ...this.#ways.map(({ name }) => this.#calls.get(name)?.endedMs ?? sinceMs),
    ]
  }

  #dial(way: Way): TLSSocket {
    this.tally.opened += 1
    const socket = connect({
      host: way.host,
      port: way.port,
      servername: way.serverName,
      ...this.clientOptions,
    })
    socket.setNoDelay(true)
    return socket
  }

  async #keepFlowing(flow: Flow): Promise<void> {
    while (!this.#stopped) {
      const socket = this.#dial(flow.way)
      const connection = ++this.#connections
      flow.begin(socket)
      const exchange = new Exchange(socket, connection, this.tally)
      try {
        await exchange.open()
        flow.openedMs = Date.now()
        while (!this.#stopped) {
          // A reset that was lost on the way leaves a connection that nobody will ever say anything on again.
          const deadline = setTimeout(() => socket.destroy(new Error(`nothing for ${CALL_MS} ms`)), CALL_MS)
          await exchange.once(1 + Math.floor(this.#random() * EXCHANGE_BYTES))
          clearTimeout(deadline)
          flow.exchanged()
          await sleep(EXCHANGE_EVERY_MS)
        }
      } catch (error) {
        if (!this.#stopped) this.#lose(`flow: ${(error as Error).message}`, flow.openedMs > 0)
        await sleep(AFTER_LOSS_MS)
      } finally {
        flow.openedMs = 0
        socket.destroy()
      }
    }
  }

  async #keepCalling(way: Way): Promise<void> {
    while (!this.#stopped) {
      const startedMs = Date.now()
      const failure = await this.call(way)
      if (failure === undefined) this.#calls.set(way.name, { startedMs, endedMs: Date.now() })
      else if (!this.#stopped) this.#lose(`call: ${failure}`, false)
      await sleep(failure === undefined ? CALL_EVERY_MS : AFTER_LOSS_MS)
    }
  }

  /** One call with an orderly end both ways; why it was lost, or undefined. */
  async call(way: Way): Promise<string | undefined> {
    const socket = this.#dial(way)
    const deadline = setTimeout(() => socket.destroy(new Error(`nothing for ${CALL_MS} ms`)), CALL_MS)
    try {
      const exchange = new Exchange(socket, ++this.#connections, this.tally)
      await exchange.open()
      await exchange.once(1 + Math.floor(this.#random() * EXCHANGE_BYTES))
      await exchange.end()
      return undefined
    } catch (error) {
      return (error as NodeJS.ErrnoException).code ?? (error as Error).message
    } finally {
      clearTimeout(deadline)
      socket.destroy()
    }
  }

  async #keepIntruding(intruder: Intruder): Promise<void> {
    while (!this.#stopped) {
      this.intrusions += 1
      await intrude(intruder)
      await sleep(INTRUSION_EVERY_MS)
    }
  }

  #lose(reason: string, established: boolean): void {
    this.tally.lost += 1
    if (established) this.tally.established += 1
    this.tally.reasons.set(reason, (this.tally.reasons.get(reason) ?? 0) + 1)
  }
}

class Flow {
  readonly way: Way
  socket: TLSSocket | undefined
  /** 0 while it is being opened. */
  openedMs = 0
  exchangedMs = 0
  /** When it last got bytes after a pause or a new start. */
  wholeMs = 0
  #startedMs = 0

  constructor(way: Way) {
    this.way = way
  }

  begin(socket: TLSSocket): void {
    this.socket = socket
    this.#startedMs = Date.now()
  }

  exchanged(): void {
    const now = Date.now()
    if (this.exchangedMs < this.#startedMs || now - this.exchangedMs > 250) this.wholeMs = now
    this.exchangedMs = now
  }
}

/** Both ends of one connection's bytes. */
class Exchange {
  readonly #socket: TLSSocket
  readonly #connection: number
  readonly #tally: Tally
  readonly #head: Buffer
  #sent = 0
  #got = 0
  #failure: Error | undefined
  #secure = false
  #ended = false
  #wake: (() => void) | undefined

  constructor(socket: TLSSocket, connection: number, tally: Tally) {
    this.#socket = socket
    this.#connection = connection
    this.#tally = tally
    this.#head = header('GOOD', connection)
    const settle = (failure?: Error) => {
      this.#failure ??= failure
      this.#wake?.()
    }
    socket.once('secureConnect', () => {
      this.#secure = true
      settle()
    })
    socket.on('data', (chunk) => {
      this.#take(chunk)
      settle()
    })
    socket.on('error', (error: NodeJS.ErrnoException) => settle(error))
    socket.on('end', () => {
      this.#ended = true
      settle()
    })
    socket.on('close', () => settle(new Error('it was closed')))
  }

  async open(): Promise<void> {
    await this.#until(() => this.#secure)
    this.#socket.write(this.#head)
    this.#sent = HEADER_BYTES
  }

  /** Sends so many bytes and waits until all have come back. */
  async once(length: number): Promise<void> {
    this.#socket.write(patternAt(this.#connection, this.#sent, length))
    this.#sent += length
    await this.#until(() => this.#got >= this.#sent)
  }

  async end(): Promise<void> {
    this.#socket.end()
    await this.#until(() => this.#ended)
    if (this.#got !== this.#sent) throw new Error('the end came too early')
  }

  async #until(done: () => boolean): Promise<void> {
    while (!done()) {
      if (this.#failure !== undefined) throw this.#failure
      if (this.#ended) throw new Error('it was ended')
      await new Promise<void>((wake) => {
        this.#wake = wake
      })
    }
  }

  #take(chunk: Buffer): void {
    const head = this.#got < HEADER_BYTES ? chunk.subarray(0, HEADER_BYTES - this.#got) : chunk.subarray(0, 0)
    let wrong = 0
    for (let i = 0; i < head.length; i += 1) if (head[i] !== this.#head[this.#got + i]) wrong += 1
    const rest = chunk.subarray(head.length)
    wrong += wrongBytes(this.#connection, this.#got + head.length, rest)
    // More than was sent is wrong whatever it is.
    wrong += Math.max(0, this.#got + chunk.length - this.#sent)
    this.#got += chunk.length
    this.#tally.wrongBytes += wrong
    this.#tally.bytes += chunk.length - wrong
  }
}

/** Says who it is as soon as anybody listens; nobody must. */
async function intrude({ host, port, tls }: Intruder): Promise<void> {
  const socket =
    tls === undefined
      ? connectPlain({ host, port })
      : connect({ rejectUnauthorized: false, checkServerIdentity: () => undefined, ...tls, host, port })
  const cut = setTimeout(() => socket.destroy(), 2_000)
  socket.on('error', () => {}).on('data', () => {})
  socket.once(tls === undefined ? 'connect' : 'secureConnect', () => {
    socket.write(tls === undefined ? 'EVIL / HTTP/1.1\r\nhost: productpage\r\n\r\n' : header('EVIL', 0))
  })
  await once(socket, 'close').catch(() => {})
  clearTimeout(cut)
}
