// The service to put behind a gateway under load: HTTP/1.1 by hand, so that it costs little beside what is measured, and counters of
// its own, so that the client's figures can be held against them.
//
//   GET /bytes/N     N bytes
//   GET anything     as many as it was told (`size`)
//   PUT, POST        the body is read and counted; the answer is empty
//   PUT /stall       nothing is read any more; an interim response now and then shows whether anybody is there
import { createServer, type Server, type Socket } from 'node:net'

export interface BackendCounters {
  /** Accepted. */
  connections: number
  /** Whose head was read. */
  requests: number
  /** Of bodies, as all of these. */
  bytesSent: number
  bytesReceived: number
}

export interface BackendOptions {
  readonly host: string
  /** 0: any that is free. */
  readonly port: number
  /** Bytes of an answer whose path asks for no number of them. Default 1,000. */
  readonly size?: number
}

/** No more than this is asked for: a number with more digits is a mistake. */
const LARGEST = 1_000_000_000_000
const MAX_HEAD = 65_536
/** An answer up to this long is made once, with its head. */
const KEPT = 65_536
const MOST_KEPT = 64
const CHUNK = Buffer.alloc(65_536, 'x')
const HEAD_END = Buffer.from('\r\n\r\n')
const EMPTY = Buffer.from('HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n')
/** RFC 2518 section 10.1: nobody waits for it, and everybody skips it. */
const INTERIM = Buffer.from('HTTP/1.1 102 Processing\r\n\r\n')
/**
 * How often who is stalled is asked. Who does not read does not see the end of a connection: a write to one that is gone does, or the
 * megabytes that its buffers hold in the kernel would stay until this process ends, and slow down everybody on the machine.
 */
const PROBE_MS = 500
const BAD = Buffer.from('HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n')

export class Backend {
  readonly counters: BackendCounters = { connections: 0, requests: 0, bytesSent: 0, bytesReceived: 0 }
  readonly #server: Server
  readonly #sockets = new Set<Socket>()
  readonly #stalled = new Set<Socket>()
  readonly #answers = new Map<number, Buffer>()
  readonly #size: number
  readonly #prober = setInterval(() => {
    for (const socket of this.#stalled) socket.write(INTERIM)
  }, PROBE_MS).unref()

  private constructor(size: number) {
    this.#size = size
    this.#server = createServer({ noDelay: true }, (socket) => this.#accept(socket))
  }

  /** Rejects with the system's error where the address cannot be had. */
  static start({ host, port, size = 1_000 }: BackendOptions): Promise<Backend> {
    const backend = new Backend(size)
    return new Promise((resolve, reject) => {
      backend.#server.once('error', reject)
      backend.#server.listen({ host, port, backlog: 4_096 }, () => resolve(backend))
    })
  }

  get port(): number {
    return (this.#server.address() as { port: number }).port
  }

  /** Ends the connections that are stalled: who does not read does not see their end either. */
  releaseStalled(): void {
    for (const socket of this.#stalled) socket.destroy()
  }

  /** Connections that are open now. */
  get open(): number {
    return this.#sockets.size
  }

  async stop(): Promise<void> {
    clearInterval(this.#prober)
    const closed = new Promise((resolve) => this.#server.close(resolve))
    for (const socket of this.#sockets) socket.destroy()
    await closed
  }

  #accept(socket: Socket): void {
    this.counters.connections++
    this.#sockets.add(socket)
    const conversation = new Conversation(this, socket)
    socket.on('data', (data: Buffer) => conversation.read(data))
    socket.on('error', () => socket.destroy())
    socket.on('close', () => {
      this.#sockets.delete(socket)
      this.#stalled.delete(socket)
    })
  }

  stall(socket: Socket): void {
    this.#stalled.add(socket.pause())
  }

  answer(socket: Socket, path: string): void {
    const asked = /^\/bytes\/(\d{1,15})(?:\?|$)/.exec(path)?.[1]
    const size = asked === undefined ? this.#size : Math.min(Number(asked), LARGEST)
    if (size <= KEPT) {
      this.counters.bytesSent += size
      socket.write(this.#answerOf(size))
    } else {
      socket.write(headOf(size))
      this.#pour(socket, size)
    }
  }

  #answerOf(size: number): Buffer {
    const known = this.#answers.get(size)
    if (known !== undefined) return known
    const answer = Buffer.concat([headOf(size), CHUNK.subarray(0, size)])
    if (this.#answers.size < MOST_KEPT) this.#answers.set(size, answer)
    return answer
  }

  #pour(socket: Socket, size: number): void {
    let left = size
    const more = (): void => {
      while (left > 0) {
        const part = left < CHUNK.length ? CHUNK.subarray(0, left) : CHUNK
        left -= part.length
        this.counters.bytesSent += part.length
        if (!socket.write(part) && left > 0) return void socket.once('drain', more)
      }
    }
    more()
  }
}

const headOf = (size: number): Buffer => Buffer.from(`HTTP/1.1 200 OK\r\nContent-Length: ${size}\r\n\r\n`)

/** What one connection has sent so far. */
class Conversation {
  readonly #backend: Backend
  readonly #socket: Socket
  /** Bytes of a body that are to come. */
  #awaited = 0
  #partial: Buffer | undefined

  constructor(backend: Backend, socket: Socket) {
    this.#backend = backend
    this.#socket = socket
  }

  read(data: Buffer): void {
    const { counters } = this.#backend
    let bytes = this.#partial === undefined ? data : Buffer.concat([this.#partial, data])
    this.#partial = undefined
    while (bytes.length > 0) {
      if (this.#awaited > 0) {
        const taken = Math.min(this.#awaited, bytes.length)
        this.#awaited -= taken
        counters.bytesReceived += taken
        if (this.#awaited === 0) this.#socket.write(EMPTY)
        bytes = bytes.subarray(taken)
        continue
      }
      const end = bytes.indexOf(HEAD_END)
      if (end < 0) {
        if (bytes.length > MAX_HEAD) return void this.#refuse()
        this.#partial = bytes
        return
      }
      const head = bytes.toString('latin1', 0, end)
      bytes = bytes.subarray(end + HEAD_END.length)
      if (!this.#begin(head)) return
    }
  }

  /** False where nothing more is read. */
  #begin(head: string): boolean {
    const line = /^([A-Z]+) (\S+) HTTP\/1\.[01]/.exec(head)
    if (line === null) {
      this.#refuse()
      return false
    }
    const [, method, path = ''] = line
    this.#backend.counters.requests++
    if (method === 'GET') {
      this.#backend.answer(this.#socket, path)
      return true
    }
    if (path === '/stall') {
      this.#backend.stall(this.#socket)
      return false
    }
    const length = /\r\nContent-Length: *(\d{1,15})/i.exec(head)?.[1]
    if (length === undefined) {
      this.#refuse()
      return false
    }
    this.#awaited = Number(length)
    if (this.#awaited === 0) this.#socket.write(EMPTY)
    return true
  }

  #refuse(): void {
    this.#socket.end(BAD)
    this.#socket.removeAllListeners('data').resume()
  }
}
