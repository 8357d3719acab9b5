import type { Socket } from 'node:net'
import type { Dialer } from './dialer.ts'
import { type LoadError, loadError, socketError } from './load-error.ts'
import { bodyPiece, type RequestBytes } from './request-bytes.ts'
import { ResponseReader } from './response-reader.ts'

/** The flow that a connection belongs to. Times are of `performance.now()`, milliseconds. */
export interface ConnectionOwner {
  /** TCP, TLS, and the server is who was expected. */
  opened(connection: LoadConnection, nowMs: number): void
  /** Bytes of bodies, as they come. */
  received(connection: LoadConnection, bytes: number, nowMs: number): void
  /** The request under way is answered; another one may be sent. */
  answered(connection: LoadConnection, nowMs: number): void
  /** It is over; an error where neither we nor, between two requests, the server ended it in order. */
  ended(connection: LoadConnection, error: LoadError | undefined, nowMs: number): void
}

/** One connection of a load, with at most one request under way. */
export class LoadConnection {
  /** When it was dialled, and when the request under way began: by the schedule, and really. */
  readonly dialledMs: number
  intendedMs = 0
  sentMs = 0
  /** Until when it must have come further; the flow looks. */
  deadlineMs: number
  /** TLS is there, and nothing has ended. */
  open = false
  /** A request is under way. */
  busy = false
  /** One of its requests was answered. */
  answeredOnce = false
  /** Since when nothing is under way on it. */
  freeMs = 0
  readonly #owner: ConnectionOwner
  readonly #socket: Socket
  readonly #reader = new ResponseReader()
  readonly #timeoutMs: number
  #error: LoadError | undefined
  #closing = false
  #over = false
  #bodyLeft = 0

  constructor(owner: ConnectionOwner, dialer: Dialer, timeoutMs: number) {
    this.#owner = owner
    this.#timeoutMs = timeoutMs
    this.dialledMs = performance.now()
    this.deadlineMs = this.dialledMs + timeoutMs
    const { socket, established } = dialer.dial((bytes) => this.#receive(bytes))
    this.#socket = socket
    socket.on('error', (error) => {
      this.#error ??= socketError(error)
    })
    socket.once('end', () => {
      if (this.#reader.end()) this.#complete(performance.now())
    })
    socket.once('close', () => this.#closed())
    socket.once(established, () => this.#established(dialer))
  }

  /** Of everything that was sent, TLS left out: what the system has taken. */
  get bytesWritten(): number {
    return this.#socket.bytesWritten
  }

  get status(): number {
    return this.#reader.status
  }

  /** Whether another request may follow: the server lets it, and has not answered one whose body is still on its way. */
  get reusable(): boolean {
    return this.open && !this.#reader.closing && this.#bodyLeft === 0
  }

  /** Sends a request of which the schedule said that it begins at `intendedMs`. */
  send(request: RequestBytes, intendedMs: number, nowMs: number): void {
    this.busy = true
    this.intendedMs = intendedMs
    this.sentMs = nowMs
    this.deadlineMs = nowMs + this.#timeoutMs
    this.#reader.reset()
    this.#socket.write(request.first)
    if (request.restBytes > 0) this.#pour(request.restBytes)
  }

  /** Nothing more is read. */
  stall(): void {
    this.#socket.pause()
  }

  /** In order, unless a body is on its way that nobody may ever take. */
  end(): void {
    this.#closing = true
    if (this.#bodyLeft > 0) return void this.#socket.destroy()
    this.deadlineMs = performance.now() + this.#timeoutMs
    this.#socket.end()
  }

  /** At once, because of an error, or as a client that is killed: without TLS's close_notify. */
  destroy(error?: LoadError): void {
    if (error === undefined) this.#closing = true
    else this.#error ??= error
    this.#socket.destroy()
  }

  #established(dialer: Dialer): void {
    const now = performance.now()
    const refusal = dialer.refusal(this.#socket)
    if (refusal !== '') return void this.destroy(loadError('identity', refusal))
    this.open = true
    this.freeMs = now
    this.#owner.opened(this, now)
  }

  #receive(bytes: Buffer): void {
    if (this.#over) return
    const now = performance.now()
    const reader = this.#reader
    const before = reader.bodyBytes
    const whole = this.busy ? reader.read(bytes) : false
    if (reader.bodyBytes > before) this.#owner.received(this, reader.bodyBytes - before, now)
    if (!this.busy) this.destroy(loadError('malformed response', 'bytes that nobody asked for'))
    else if (reader.problem !== '') this.destroy(loadError('malformed response', reader.problem))
    else if (whole) this.#complete(now)
  }

  #complete(now: number): void {
    this.busy = false
    this.answeredOnce = true
    this.freeMs = now
    this.#owner.answered(this, now)
  }

  #pour(bytes: number): void {
    this.#bodyLeft = bytes
    const more = () => {
      while (this.#bodyLeft > 0) {
        const piece = bodyPiece(this.#bodyLeft)
        this.#bodyLeft -= piece.length
        if (!this.#socket.write(piece)) return void this.#socket.once('drain', more)
      }
    }
    more()
  }

  #closed(): void {
    this.#over = true
    const before = this.open ? 'in the middle of an answer' : 'in the TLS handshake'
    if (this.#error === undefined && !this.#closing && (this.busy || !this.answeredOnce)) {
      const where = this.open && !this.#reader.begun ? 'before an answer' : before
      this.#error = loadError('closed', `the target closed the connection ${where}`)
    }
    this.open = false
    // The owner sees whether it was busy.
    this.#owner.ended(this, this.#closing ? undefined : this.#error, performance.now())
    this.busy = false
  }
}
