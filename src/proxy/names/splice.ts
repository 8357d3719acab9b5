import type { Socket } from 'node:net'

/**
 * Joins two plain sockets, both with `allowHalfOpen`: bytes with backpressure, each end of stream by itself, a reset as a
 * reset. It is for targets that are not ours; the engine's own pump counts, logs and times out.
 */
export function splice(a: Socket, b: Socket): void {
  oneWay(a, b)
  oneWay(b, a)
}

function oneWay(from: Socket, to: Socket): void {
  from.on('data', (chunk: Buffer) => {
    if (!to.write(chunk)) from.pause()
  })
  to.on('drain', () => from.resume())
  // A paused socket with nothing to read still emits `end`: it may have ended before we came.
  if (from.readableEnded) to.end()
  else from.on('end', () => to.end())
  from.on('error', () => to.resetAndDestroy())
  // After an orderly end of both sides this is a no-op; without one it is all the other side will ever hear.
  from.on('close', () => {
    if (!from.readableEnded || !from.writableFinished) to.destroy()
  })
  from.resume()
}
