// A wire that can fail: a TCP relay in a process of its own. It never changes a byte.
import { connect, createServer, type Server, type Socket } from 'node:net'

export interface RelayOptions {
  readonly host: string
  readonly port: number
  readonly target: { readonly host: string; readonly port: number }
}

/** What happens to bytes and connections from now on. */
export type RelayMode =
  | { readonly mode: 'pass' }
  /** Each chunk is late by `ms`, either way. */
  | { readonly mode: 'delay'; readonly ms: number }
  /** Nothing moves, and nothing is read: the senders' windows fill up. */
  | { readonly mode: 'freeze' }
  | { readonly mode: 'throttle'; readonly bytesPerSecond: number }
  /** New connections are accepted and reset at once; open ones pass. */
  | { readonly mode: 'refuse' }

export type RelayOrder =
  | RelayMode
  /** All open connections end on both sides, by RST or by a FIN that no TLS layer announced. */
  | { readonly cut: 'rst' | 'fin' }
  /** Forgets the side that dialled us without a word to the other one, as a machine does that loses its power. */
  | { readonly vanish: true }

export interface RelayAnswer {
  readonly done: number
  readonly port: number
}

const TICK_MS = 20

/** One direction of one connection. Bytes wait here in order until the mode lets them go. */
class Lane {
  readonly #from: Socket
  readonly #to: Socket
  readonly #waiting: { readonly chunk: Buffer; readonly dueMs: number }[] = []
  #ended = false
  #finished = false

  constructor(from: Socket, to: Socket) {
    this.#from = from
    this.#to = to
    from.on('data', (chunk) => {
      this.#waiting.push({ chunk, dueMs: Date.now() + (mode.mode === 'delay' ? mode.ms : 0) })
      if (mode.mode === 'pass') this.move(Number.POSITIVE_INFINITY)
      else this.#hold()
    })
    from.on('end', () => {
      this.#ended = true
      if (mode.mode === 'pass') this.move(Number.POSITIVE_INFINITY)
    })
    to.on('drain', () => this.#hold())
  }

  /** Lets at most so many bytes go, if they are due. */
  move(bytes: number): void {
    let left = bytes
    for (let next = this.#waiting[0]; next !== undefined && left > 0; next = this.#waiting[0]) {
      if (next.dueMs > Date.now() || this.#to.destroyed) break
      this.#waiting.shift()
      const part = next.chunk.subarray(0, left)
      if (part.length < next.chunk.length)
        this.#waiting.unshift({ chunk: next.chunk.subarray(part.length), dueMs: next.dueMs })
      left -= part.length
      this.#to.write(part)
    }
    if (this.#ended && this.#waiting.length === 0 && !this.#finished) {
      this.#finished = true
      this.#to.end()
    }
    this.#hold()
  }

  #hold(): void {
    const held = this.#waiting.reduce((sum, { chunk }) => sum + chunk.length, 0)
    const stop = mode.mode === 'freeze' || held > 65_536 || this.#to.writableNeedDrain
    if (stop) this.#from.pause()
    else this.#from.resume()
  }
}

interface Pair {
  readonly near: Socket
  readonly far: Socket
  readonly lanes: readonly Lane[]
}

let mode: RelayMode = { mode: 'pass' }
const pairs = new Set<Pair>()

function take(near: Socket, options: RelayOptions): void {
  near.on('error', () => {})
  if (mode.mode === 'refuse') {
    near.resetAndDestroy()
    return
  }
  const far = connect({ ...options.target, allowHalfOpen: true, noDelay: true })
  const pair: Pair = { near, far, lanes: [new Lane(near, far), new Lane(far, near)] }
  pairs.add(pair)
  // A reset goes on as a reset: the relay stands for a wire, not for a proxy.
  far.on('error', () => near.resetAndDestroy())
  near.on('error', () => far.resetAndDestroy())
  for (const socket of [near, far])
    socket.on('close', () => {
      if (near.destroyed && far.destroyed) pairs.delete(pair)
    })
}

function cut(how: 'rst' | 'fin'): void {
  for (const { near, far } of pairs)
    for (const socket of [near, far])
      if (how === 'rst') socket.resetAndDestroy()
      else socket.end(() => socket.destroySoon())
}

setInterval(() => {
  if (mode.mode === 'freeze') return
  const bytes = mode.mode === 'throttle' ? (mode.bytesPerSecond * TICK_MS) / 1_000 : Number.POSITIVE_INFINITY
  for (const { lanes } of pairs) for (const lane of lanes) lane.move(bytes)
}, TICK_MS)

process.on('disconnect', () => process.exit(0))
process.once('message', (options: RelayOptions) => {
  const server: Server = createServer({ allowHalfOpen: true, noDelay: true }, (near) => take(near, options))
  const answer = (done: number): void => {
    const at = server.address()
    const message: RelayAnswer = { done, port: typeof at === 'object' && at !== null ? at.port : 0 }
    if (process.connected) process.send?.(message, undefined, undefined, () => {})
  }
  process.on('message', ({ id, order }: { id: number; order: RelayOrder }) => {
    if ('cut' in order) cut(order.cut)
    else if ('vanish' in order) for (const { near } of pairs) near.destroy()
    else mode = order
    answer(id)
  })
  server.listen(options.port, options.host, () => answer(0))
})
