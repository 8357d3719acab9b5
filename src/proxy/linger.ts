import type { Clock } from '../lib/clock.ts'
import type { PumpEnd } from './pump.ts'

/** How long a refused peer may take to read its last words. */
const LINGER_MS = 1_000

/**
 * Says a last thing (or nothing) and closes in order. Bytes that still arrive are dropped: closing with them unread would send a
 * reset, which may overtake the last words.
 */
export function lingeringClose({ stream, raw }: PumpEnd, clock: Clock, lastWords?: Buffer): void {
  // On Bun the socket below is destroyed with its peer's FIN, and only the stream tells.
  if (raw.destroyed && stream.destroyed) return
  const destroy = () => {
    cancel()
    stream.destroy()
    raw.destroy()
  }
  const cancel = clock.after(LINGER_MS, destroy)
  stream.on('error', destroy)
  stream.once('close', destroy)
  const ended = () => {
    if (stream.writableFinished) destroy()
    else stream.once('finish', destroy)
  }
  if (stream.readableEnded) ended()
  else stream.once('end', ended)
  stream.on('data', drop)
  if (lastWords === undefined) stream.end()
  else stream.end(lastWords)
  stream.resume()
}

function drop(): void {}
