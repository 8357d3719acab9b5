import { constants, fstatSync, openSync, writeSync } from 'node:fs'

/** A pipe takes this much or nothing, and never mixes it with what other processes write (PIPE_BUF of pipe(7)). */
export const ATOMIC_BYTES = 4_096
/** Lines that are wanted soon, not now, are collected for one turn of the event loop, but no more of them than this. */
const COLLECTED_BYTES = 16 * 1_024
/** What only lines of the program itself may fill, when nobody reads: the access log is the first to lose. */
const RESERVED_BYTES = 256 * 1_024
const RETRY_MIN_MS = 2
const RETRY_MAX_MS = 50
/** How long the end of the process may wait for a reader. */
const LAST_WAIT_MS = 100
const NEWLINE = 0x0a

export interface LogSinkOptions {
  /** Default: standard output, or what leads there without ever blocking us. */
  readonly fd?: number
  /** How much waits for a slow reader before lines are dropped, bytes. Default 1 MiB. */
  readonly capacityBytes?: number
  /** The line that says, once there is room again, how many are missing. */
  readonly describeLoss?: (lines: number) => string
}

/**
 * Lines to a descriptor without ever waiting for its reader. A write to a full pipe would stop the event loop, and all traffic
 * with it, until somebody reads; here lines wait in a buffer of fixed size, and what does not fit is dropped and counted.
 * Whole lines are written, at most `ATOMIC_BYTES` at a time, so that processes that share a pipe do not cut each other's.
 */
export class LogSink {
  readonly #fd: number
  readonly #buffer: Buffer
  readonly #describeLoss: (lines: number) => string
  #from = 0
  #to = 0
  #dropped = 0
  #untold = 0
  #scheduled: NodeJS.Immediate | undefined
  #retry: NodeJS.Timeout | undefined
  #retryMs = RETRY_MIN_MS

  constructor(options: LogSinkOptions = {}) {
    this.#fd = options.fd ?? standardOutput()
    this.#buffer = Buffer.allocUnsafe(options.capacityBytes ?? 1_048_576)
    this.#describeLoss = options.describeLoss ?? ((lines) => `${lines} log lines were dropped\n`)
    process.once('exit', () => this.#lastWords())
  }

  /** Lines that were dropped so far. */
  get dropped(): number {
    return this.#dropped
  }

  /** A line of the program itself, with its newline: written now if the reader keeps up. The name is that of pino's destinations. */
  write(line: string): void {
    if (this.#append(line, 0) && this.#retry === undefined) this.#flush()
  }

  /** A line among many, with its newline: written within this turn of the event loop. */
  writeSoon(line: string): void {
    const reserved = Math.min(RESERVED_BYTES, this.#buffer.length / 4)
    if (!this.#append(line, reserved) || this.#retry !== undefined) return
    if (this.#to - this.#from >= COLLECTED_BYTES) this.#flush()
    else
      this.#scheduled ??= setImmediate(() => {
        this.#scheduled = undefined
        if (this.#retry === undefined) this.#flush()
      })
  }

  #append(line: string, reserved: number): boolean {
    const bytes = Buffer.byteLength(line)
    if (this.#to + bytes > this.#buffer.length && this.#from > 0) {
      this.#buffer.copyWithin(0, this.#from, this.#to)
      this.#to -= this.#from
      this.#from = 0
    }
    if (this.#to - this.#from + bytes > this.#buffer.length - reserved) {
      this.#dropped += 1
      this.#untold += 1
      return false
    }
    this.#to += this.#buffer.write(line, this.#to)
    return true
  }

  /** Writes until all is out or the reader is behind; then again later. */
  #flush(): void {
    const left = this.#drain()
    if (!left) {
      this.#retryMs = RETRY_MIN_MS
      return
    }
    this.#retry = setTimeout(() => {
      this.#retry = undefined
      this.#flush()
    }, this.#retryMs)
    this.#retry.unref()
    this.#retryMs = Math.min(RETRY_MAX_MS, this.#retryMs * 2)
  }

  /** True when something is left because the reader is behind. */
  #drain(): boolean {
    while (this.#from < this.#to) {
      const part = this.#nextPart()
      let written: number
      try {
        written = writeSync(this.#fd, this.#buffer, this.#from, part)
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === 'EAGAIN') return true
        this.#discard()
        return false
      }
      this.#from += written
      // A socket may take a part of a line: the rest must be next.
      if (written < part) return true
    }
    this.#from = 0
    this.#to = 0
    if (this.#untold === 0) return false
    const line = this.#describeLoss(this.#untold)
    this.#untold = 0
    this.#append(line, 0)
    return this.#drain()
  }

  /** As many whole lines as are written in one piece; a longer line alone. */
  #nextPart(): number {
    const waiting = this.#to - this.#from
    if (waiting <= ATOMIC_BYTES) return waiting
    const last = this.#buffer.lastIndexOf(NEWLINE, this.#from + ATOMIC_BYTES - 1)
    if (last >= this.#from) return last + 1 - this.#from
    const end = this.#buffer.indexOf(NEWLINE, this.#from)
    return end === -1 || end >= this.#to ? waiting : end + 1 - this.#from
  }

  /** Nobody will ever read this (EPIPE), or there is no room for it (ENOSPC). */
  #discard(): void {
    for (let at = this.#from; at < this.#to; at += 1) if (this.#buffer[at] === NEWLINE) this.#dropped += 1
    this.#from = 0
    this.#to = 0
  }

  #lastWords(): void {
    const pause = new Int32Array(new SharedArrayBuffer(4))
    for (let waited = 0; this.#drain() && waited < LAST_WAIT_MS; waited += 10) Atomics.wait(pause, 0, 0, 10)
  }
}

/**
 * A descriptor of standard output that does not block. A pipe is opened again: the flag would otherwise be one of all processes
 * that share it. That cannot be done with a socket, so there it is set for all, which those of ours bear. A file never blocks.
 */
function standardOutput(): number {
  const stat = fstatSync(1)
  if (stat.isFile()) return 1
  try {
    if (!stat.isSocket()) return openSync('/proc/self/fd/1', constants.O_WRONLY | constants.O_NONBLOCK)
    // The runtime opens its stream on the socket for that, and makes it non-blocking.
    void process.stdout.writableLength
    return 1
  } catch {
    return 1
  }
}
