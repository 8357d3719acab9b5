import type { Socket } from 'node:net'
import type { TLSSocket } from 'node:tls'
import type { Clock } from '../lib/clock.ts'
import { readDirectly } from './direct-reads.ts'
import { writeDirectly } from './direct-write.ts'
import { IDLE_TICKS, idleTicks } from './idle-ticks.ts'
import { passOnGathered } from './record-gatherer.ts'

/** One end of a connection: the stream of payload, and the TCP socket below it (the same where there is no TLS). */
export interface PumpEnd {
  readonly stream: Socket | TLSSocket
  /** Resets go here: on a TLS socket `resetAndDestroy` throws. */
  readonly raw: Socket
}

type SideName = 'downstream' | 'upstream'

export type PumpOutcome =
  | { readonly kind: 'done' }
  /** One end broke; the other has been reset. */
  | { readonly kind: 'broken'; readonly side: SideName; readonly detail: string }
  | { readonly kind: 'idle' }

export interface PumpOptions {
  readonly downstream: PumpEnd
  readonly upstream: PumpEnd
  /** No byte either way for this long ends both; 0 = never. Checked in eighths, so it is up to an eighth late. */
  readonly idleTimeoutMs: number
  readonly clock: Clock
  /** Called once. */
  readonly onEnd: (outcome: PumpOutcome) => void
}

/** How long data that was written before a reset may still take to leave. */
const FLUSH_MS = 1_000
const NOTHING = Buffer.alloc(0)

/**
 * Carries bytes both ways between two sockets: all of them, in order, no faster than the slower side takes them, and passes on
 * ends (FIN, close_notify) and resets. By hand and not by `pipe`: fewer calls for each chunk, and both half-closes.
 *
 * Whether a TLS peer ended with close_notify or was cut off by a bare FIN cannot be told, so that both become a FIN. Node 24 and Bun
 * 1.4 report the same `end`, no error, and have no public or private way to OpenSSL's shutdown state. The wire does not tell either:
 * after a bare FIN no byte has come since the last payload, but close_notify often comes with the payload in one read, and what comes
 * later may be any other record. Protocols that need to know frame their messages (RFC 9112 section 9.8 says so for HTTP).
 */
export class Pump {
  /** Downstream → upstream. */
  bytesIn = 0
  /** Upstream → downstream. */
  bytesOut = 0
  /** Whether no byte of the client's came after the last of the server's; true before anybody spoke. */
  upstreamSpokeLast = true
  readonly #options: PumpOptions
  #moved = true
  #idleTicks = 0
  #open = 2
  #finished = false

  constructor(options: PumpOptions) {
    this.#options = options
  }

  start(): void {
    const { downstream, upstream, idleTimeoutMs, clock } = this.#options
    const client = new Side(this, 'downstream', downstream, upstream)
    const server = new Side(this, 'upstream', upstream, downstream)
    client.flow()
    server.flow()
    client.watch()
    server.watch()
    if (idleTimeoutMs > 0) idleTicks(clock, idleTimeoutMs).add(this)
  }

  /** Ends both sides at once, as an error for whoever is still sending. */
  abort(): void {
    this.#settle()
    reset(this.#options.downstream)
    reset(this.#options.upstream)
  }

  /** Ends both sides in order, with what was written for them before. */
  close(): void {
    this.#settle()
    for (const { stream } of [this.#options.downstream, this.#options.upstream]) stream.destroySoon()
  }

  /** Bytes came from there. */
  count(from: SideName, length: number): void {
    this.#moved = true
    this.upstreamSpokeLast = from === 'upstream'
    if (this.upstreamSpokeLast) this.bytesOut += length
    else this.bytesIn += length
  }

  /** Bytes that waited have left. */
  moved(): void {
    this.#moved = true
  }

  /** A throw is a bug of ours, and costs this one connection. */
  broke({ name }: Side, error: unknown): void {
    this.abort()
    const detail = error instanceof Error ? error.message : String(error)
    this.#options.onEnd({ kind: 'broken', side: name, detail })
  }

  /** A side is closed; `fault` says why it is not whole. */
  closed({ name, other }: Side, fault: string | undefined): void {
    this.#open -= 1
    if (this.#finished) return
    if (fault !== undefined) {
      this.#finish({ kind: 'broken', side: name, detail: fault })
      flushThenReset(other, this.#options.clock)
    } else if (this.#open === 0) {
      this.#finish({ kind: 'done' })
    }
  }

  /** For `IdleTicks`. */
  tick(): void {
    this.#idleTicks = this.#moved ? 0 : this.#idleTicks + 1
    this.#moved = false
    if (this.#idleTicks < IDLE_TICKS) return
    this.#finish({ kind: 'idle' })
    // An orderly end for both, as Envoy gives; whoever does not answer it is cut.
    for (const { stream } of [this.#options.downstream, this.#options.upstream]) stream.destroySoon()
  }

  #finish(outcome: PumpOutcome): void {
    if (this.#finished) return
    this.#settle()
    this.#options.onEnd(outcome)
  }

  /** Nothing is to be found out any more. */
  #settle(): void {
    passOnGathered()
    this.#finished = true
    const { idleTimeoutMs, clock } = this.#options
    if (idleTimeoutMs > 0) idleTicks(clock, idleTimeoutMs).delete(this)
  }
}

/** The side of a pump that a stream is: the listeners are the same functions for all, instead of ten of its own for each connection. */
const SIDE = Symbol('side of a pump')

interface Pumped extends Socket {
  [SIDE]: Side
}

/** One end while the pump runs: what comes from it goes to the other. */
class Side {
  readonly pump: Pump
  readonly name: SideName
  readonly self: PumpEnd
  readonly other: PumpEnd
  /** What is wrong with it. */
  #fault: string | undefined

  constructor(pump: Pump, name: SideName, self: PumpEnd, other: PumpEnd) {
    this.pump = pump
    this.name = name
    this.self = self
    this.other = other
  }

  flow(): void {
    const from = this.self.stream as Pumped
    from[SIDE] = this
    from.on('drain', drained)
    // It may have ended while the other side was being connected: Node says so once, to whoever listens then.
    if (from.readableEnded) ended.call(from)
    else from.on('end', ended)
    readDirectly(from, this)
  }

  /** For `readDirectly`. */
  take(chunk: Buffer, lent: boolean): boolean {
    this.pump.count(this.name, chunk.length)
    return writeDirectly(this.other.stream, chunk, lent)
  }

  watch(): void {
    this.self.stream.on('error', failed)
    this.self.stream.on('close', closed)
  }

  failed(error: NodeJS.ErrnoException): void {
    this.#fault = error.code ?? error.message
    // Node reports what is wrong inside an established TLS connection and leaves the socket open, for ever if the peer likes.
    this.self.stream.destroy()
  }

  closed(): void {
    const { readableEnded, writableFinished } = this.self.stream
    const whole = readableEnded && writableFinished
    this.pump.closed(this, this.#fault ?? (whole ? undefined : 'closed before its end'))
  }
}

function drained(this: Pumped): void {
  const { pump, other } = this[SIDE]
  pump.moved()
  other.stream.resume()
}

function ended(this: Pumped): void {
  passOnGathered()
  this[SIDE].other.stream.end()
}

function failed(this: Pumped, error: NodeJS.ErrnoException): void {
  this[SIDE].failed(error)
}

function closed(this: Pumped): void {
  const side = this[SIDE]
  try {
    side.closed()
  } catch (error) {
    side.pump.broke(side, error)
  }
}

/**
 * Resets the TCP connection, so that its peer does not take a broken stream for a whole one. Nothing is read from it any more; where
 * there is TLS, Node does the rest in the next turn: who calls may be in a callback of the TLS socket, or in what follows a promise
 * settled there, and Node dies of a segmentation fault when the socket below is torn away under it. Bun does not, and would end with
 * a close_notify.
 */
export function reset(end: PumpEnd): void {
  if (end.stream === end.raw || 'bun' in process.versions) {
    resetNow(end)
  } else {
    end.stream.pause()
    setImmediate(resetNow, end)
  }
}

function resetNow(end: PumpEnd): void {
  // While a shutdown is on its way libuv refuses to reset (EINVAL), and Node then drops its reference to a handle that is
  // still open: a descriptor lost for good. Everything is with the kernel by then, so an ordinary close loses nothing.
  if (isShuttingDown(end.stream)) end.raw.destroy()
  else if (!end.raw.destroyed) end.raw.resetAndDestroy()
  // Bun closes the socket below with its peer's FIN, while the TLS stream can still be written to, and reset.
  else if (!end.stream.destroyed && 'bun' in process.versions) end.stream.resetAndDestroy()
  if (end.stream !== end.raw) end.stream.destroy()
}

/** `end()` was called and all that was written is out, but the FIN is not confirmed yet. */
function isShuttingDown({ writableEnded, writableFinished, writableLength }: Socket): boolean {
  return writableEnded && !writableFinished && writableLength === 0
}

/** What was received before the other side broke is still delivered, then the reset. */
function flushThenReset(end: PumpEnd, clock: Clock): void {
  if (end.stream.destroyed || end.stream.writableLength === 0) {
    reset(end)
    return
  }
  const now = () => {
    cancel()
    reset(end)
  }
  const cancel = clock.after(FLUSH_MS, now)
  end.stream.once('close', cancel)
  // Called back when everything before it has left.
  if (end.stream.writableEnded) end.stream.once('finish', now)
  else end.stream.write(NOTHING, now)
}
