import { Socket } from 'node:net'
import { TLSSocket } from 'node:tls'
import { RecordGatherer } from './record-gatherer.ts'

/** Of one read; more than a socket's receive buffer usually has, and four whole TLS records. */
const READ_BYTES = 65_536
/** All sockets read into these bytes: each read is over before the next one of any socket begins. */
const shared = Buffer.allocUnsafeSlow(READ_BYTES)

/**
 * Takes what was read, and says whether more may come; the bytes are the caller's again when it returns, so whoever keeps them keeps
 * a copy. False stops reading until the socket is resumed.
 */
export type ReadSink = (chunk: Buffer) => boolean

/** What Node's `onread` sets in a socket: the Buffer to read into, and who is called with the number of bytes. */
interface OnReadHooks {
  readonly buffer: symbol
  readonly callback: symbol
}

type Hooked = Record<symbol, unknown> & {
  readonly _handle?: { useUserBuffer?(buffer: Buffer): void } | null
}

/**
 * Node has `onread` for sockets that are about to be connected; those that were accepted, and TLS on top of any, get it through the
 * same fields under the same names, which are private. Undefined where this runtime has none; Bun has no use for it, it would pay 15 %
 * of its bulk.
 */
const HOOKS: OnReadHooks | undefined = 'bun' in process.versions ? undefined : onReadHooks(new Socket())

export function onReadHooks(socket: object): OnReadHooks | undefined {
  const keys = Object.getOwnPropertySymbols(socket)
  const buffer = keys.find(({ description }) => description === 'kBuffer')
  const callback = keys.find(({ description }) => description === 'kBufferCb')
  return buffer === undefined || callback === undefined ? undefined : { buffer, callback }
}

/**
 * Gives what a connected socket receives to `sink`, without a Buffer for each read: all sockets read into one. Nothing is left for the
 * collector, and a socket whose reader stalls holds nothing. Its `data` events do not come any more; ends and errors do. False where
 * this runtime cannot, and then nothing has changed.
 */
export function shareReads(socket: Socket, sink: ReadSink, hooks: OnReadHooks | undefined = HOOKS): boolean {
  const hooked = socket as unknown as Hooked
  if (hooks === undefined || hooked._handle?.useUserBuffer === undefined) return false
  let more = true
  // What it has read so far comes first.
  for (let early: Buffer | null = socket.read(); early !== null; early = socket.read()) more = sink(early)
  const gatherer = socket instanceof TLSSocket ? new RecordGatherer(socket, sink) : undefined
  hooked[hooks.callback] =
    gatherer === undefined
      ? (length: number) => sink(shared.subarray(0, length))
      : (length: number) => gatherer.take(shared.subarray(0, length))
  hooked[hooks.buffer] = shared
  hooked._handle.useUserBuffer(shared)
  if (more) socket.resume()
  else socket.pause()
  return true
}
