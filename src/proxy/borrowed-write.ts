import { writeSync } from 'node:fs'
import type { Socket } from 'node:net'
import { TLSSocket } from 'node:tls'

/**
 * Writes bytes that are the caller's again when it returns, and copies no more of them than it must. True when more may be written at
 * once; otherwise `drain` comes.
 */
export function writeBorrowed(to: Socket, chunk: Buffer): boolean {
  // Something waits before it, so that the stream keeps it.
  if (to.writableLength > 0) return to.write(Buffer.from(chunk))
  // Has encrypted it when it returns.
  if (to instanceof TLSSocket) return to.write(chunk)
  const taken = writeNow(to, chunk)
  return taken === chunk.length || to.write(Buffer.from(chunk.subarray(taken)))
}

/**
 * How many bytes the kernel took at once. Through the descriptor, and not through the stream, which wants a request object, two
 * callbacks and a turn of its own for each write, and does not say what is left of the bytes it was given.
 */
function writeNow(to: Socket, chunk: Buffer): number {
  // Asked for each time: a descriptor that was closed is soon somebody else's, and a socket that was destroyed has no handle.
  const { fd = -1 } = (to as { readonly _handle?: { readonly fd?: number } | null })._handle ?? {}
  if (fd < 0 || !to.writable) return 0
  try {
    return writeSync(fd, chunk)
  } catch {
    // The kernel has no room (EAGAIN), or the connection is broken: the stream finds out which, and says so.
    return 0
  }
}
