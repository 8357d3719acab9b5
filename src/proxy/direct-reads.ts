import { Socket } from 'node:net'
import { TLSSocket } from 'node:tls'
import { RecordGatherer } from './record-gatherer.ts'

const IN_BUN = 'bun' in process.versions
/** Of one read; more than a socket's receive buffer usually has, and four whole TLS records. */
const READ_BYTES = 65_536
/** In Node all sockets read into these bytes: each read is over before the next one of any socket begins. */
const shared = Buffer.allocUnsafeSlow(READ_BYTES)

/** Where what was read goes. */
export interface ReadSink {
  /**
   * Says whether more may come; false stops reading until the socket is resumed. Bytes that are `lent` are the reader's again when it
   * returns, so whoever keeps them keeps a copy.
   */
  take(chunk: Buffer, lent: boolean): boolean
}

/**
 * Gives all that a connected socket receives to `sink`, where the runtime lets us past the buffer of its stream, in which things would wait
 * while nobody takes them. Nobody else may read from it any more; its end and its errors are told as ever.
 */
export function readDirectly(socket: Socket, sink: ReadSink): void {
  let more = true
  // What it has read so far comes first.
  for (let early: Buffer | null = socket.read(); early !== null; early = socket.read())
    more = sink.take(early, false)
  const reader = socket as Reader
  if (IN_BUN) takePushes(reader, sink)
  else if (!lendReads(reader, sink)) takeData(reader, sink)
  // A socket that waited for its upstream is paused, and does not start again by itself.
  if (more) socket.resume()
  else socket.pause()
}

/** What Node's `onread` sets in a socket: the Buffer to read into, and who is called with the number of bytes. */
interface OnReadHooks {
  readonly buffer: symbol
  readonly callback: symbol
}

/** Where a socket finds its sink: the functions that it is given are the same for all of them. */
const SINK = Symbol('read sink')

interface Reader extends Socket {
  [SINK]: ReadSink
  [hook: symbol]: unknown
  readonly _handle?: { useUserBuffer?(buffer: Buffer): void } | null
}

/**
 * Node has `onread` for sockets that are about to be connected; those that were accepted, and TLS on top of any, get it through the
 * same fields, which are private. Undefined where this runtime has none. Bun's `onread` costs it 15 % of its bulk.
 */
const HOOKS = IN_BUN ? undefined : onReadHooks(new Socket())

export function onReadHooks(socket: object): OnReadHooks | undefined {
  const keys = Object.getOwnPropertySymbols(socket)
  const buffer = keys.find(({ description }) => description === 'kBuffer')
  const callback = keys.find(({ description }) => description === 'kBufferCb')
  return buffer === undefined || callback === undefined ? undefined : { buffer, callback }
}

/** Without a Buffer for each read: nothing is left for the collector. False where this runtime cannot, and nothing has changed. */
function lendReads(socket: Reader, sink: ReadSink): boolean {
  if (HOOKS === undefined || socket._handle?.useUserBuffer === undefined) return false
  socket[SINK] = socket instanceof TLSSocket ? new RecordGatherer(socket, sink) : sink
  socket[HOOKS.callback] = lend
  socket[HOOKS.buffer] = shared
  socket._handle.useUserBuffer(shared)
  return true
}

function lend(this: Reader, length: number): boolean {
  return this[SINK].take(shared.subarray(0, length), true)
}

/** Bun pushes what it reads into the stream, and stops reading when that answers false. Node does so too, and has `read` start it again. */
function takePushes(socket: Reader, sink: ReadSink): void {
  socket[SINK] = sink
  socket.push = pushed
}

function pushed(this: Reader, chunk: Buffer | null): boolean {
  return chunk === null ? Socket.prototype.push.call(this, null) : this[SINK].take(chunk, false)
}

/** What any runtime can do. */
function takeData(socket: Reader, sink: ReadSink): void {
  socket[SINK] = sink
  socket.on('data', taken)
}

function taken(this: Reader, chunk: Buffer): void {
  if (!this[SINK].take(chunk, false)) this.pause()
}
