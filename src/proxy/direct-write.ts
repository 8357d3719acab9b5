import { writeSync } from 'node:fs'
import type { Socket } from 'node:net'
import { TLSSocket } from 'node:tls'

const IN_BUN = 'bun' in process.versions

/** What lies below a socket, of which each runtime has one. */
interface Handle {
  /** Node's. */
  readonly fd?: number
  /** Bun's, TCP or TLS: the number of bytes that it took. */
  write?(chunk: Buffer): number
}

/**
 * Writes what can leave at once past the stream, which wants a request object, two callbacks and a turn of its own for each write; the
 * rest goes through it. Bytes that are `lent` are the caller's again when it returns, and are copied where they have to wait. True when more
 * may be written; otherwise `drain` comes.
 */
export function writeDirectly(to: Socket, chunk: Buffer, lent: boolean): boolean {
  // What waits already goes first.
  if (to.writableLength > 0) return to.write(lent ? Buffer.from(chunk) : chunk)
  // Node's TLS has encrypted it when it returns, and keeps nothing of it.
  if (!IN_BUN && to instanceof TLSSocket) return to.write(chunk)
  const taken = to.writable ? writeNow(to, chunk) : 0
  if (taken === chunk.length) return true
  const rest = chunk.subarray(taken)
  return to.write(lent ? Buffer.from(rest) : rest)
}

/** How many bytes were taken at once: 0 also where the connection is broken, which the stream finds out and says. */
function writeNow(to: Socket, chunk: Buffer): number {
  // Asked for each time: a descriptor that was closed is soon somebody else's, and a socket that was destroyed has no handle.
  const handle = (to as { readonly _handle?: Handle | null })._handle
  if (IN_BUN) return Math.max(0, handle?.write?.(chunk) ?? 0)
  const { fd = -1 } = handle ?? {}
  if (fd < 0) return 0
  try {
    return writeSync(fd, chunk)
  } catch {
    // Most often EAGAIN: the kernel has no room.
    return 0
  }
}
