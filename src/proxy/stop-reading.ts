import type { Socket } from 'node:net'

/** What lies below the public surface of a stream in Bun. */
interface Inside {
  readonly _readableState?: { highWaterMark: number }
  readonly _handle?: { pause?(): void } | null
}

const IN_BUN = 'bun' in process.versions

/**
 * In Bun, takes from a stream the buffer that it fills while it is paused: a stream reads ahead up to its `highWaterMark`, in whole reads
 * of the runtime, which are 512 KB there, for each connection whose other side takes nothing. In Node nothing goes through this buffer
 * (`shareReads`).
 */
export function readNothingAhead(stream: Socket): void {
  const { _readableState: state } = stream as Socket & Inside
  // There is no option for it: the TLS server makes its sockets itself.
  if (IN_BUN && state !== undefined) state.highWaterMark = 0
}

/** Pauses a stream, and the kernel's reads with it: Bun stops those only when a stream's buffer has overflowed. `resume` starts both. */
export function stopReading(stream: Socket): void {
  stream.pause()
  if (IN_BUN) (stream as Inside)._handle?.pause?.()
}
