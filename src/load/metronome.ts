// A thread that does nothing but wait: timers of the event loop are whole milliseconds and late by up to one, which would be most
// of the latency of a request on a local network. Here a wait is exact to some 50 µs.
import { parentPort, workerData } from 'node:worker_threads'

/** Nobody waits longer than this at a time, whatever he waits for. Milliseconds. */
const LONGEST_WAIT_MS = 1_000

/** When the thread that is served wants to be woken, milliseconds since the epoch; infinity for not at all. */
const next = new Float64Array(workerData.next as SharedArrayBuffer)
/** [0] changes when `next` comes sooner; [1] is 1 from a tick until it is taken, so that a busy thread is not told twice. */
const cells = new Int32Array(workerData.cells as SharedArrayBuffer)

for (;;) {
  const seen = Atomics.load(cells, 0)
  const wait = (next[0] as number) - (performance.timeOrigin + performance.now())
  if (wait > 0) {
    Atomics.wait(cells, 0, seen, Math.min(wait, LONGEST_WAIT_MS))
    continue
  }
  next[0] = Number.POSITIVE_INFINITY
  if (Atomics.exchange(cells, 1, 1) === 0) parentPort?.postMessage(0)
}
