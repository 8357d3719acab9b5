import { extname, join } from 'node:path'
import { Worker } from 'node:worker_threads'

/**
 * From one waking to the next, milliseconds. Without it a schedule with less between its begins has the thread run all the time, on a core
 * that is somebody else's; and where so much is under way, the answers wake the loop as well.
 */
const LEAST_GAP_MS = 0.2

/** Wakes the event loop at a moment, exact to some 50 µs, by the thread of `metronome.ts`. */
export class Waker {
  readonly #worker: Worker
  readonly #next: Float64Array
  readonly #cells: Int32Array
  /** `performance.now()` of what the thread waits for, milliseconds. */
  #armed = Number.POSITIVE_INFINITY
  #wokenMs = 0

  constructor(wake: () => void) {
    const next = new SharedArrayBuffer(8)
    const cells = new SharedArrayBuffer(8)
    this.#next = new Float64Array(next)
    this.#next[0] = Number.POSITIVE_INFINITY
    this.#cells = new Int32Array(cells)
    const file = join(import.meta.dirname, `metronome${extname(import.meta.filename)}`)
    this.#worker = new Worker(file, { workerData: { next, cells } })
    this.#worker.on('message', () => {
      this.#armed = Number.POSITIVE_INFINITY
      this.#wokenMs = performance.now()
      Atomics.store(this.#cells, 1, 0)
      wake()
    })
    this.#worker.unref()
  }

  /** Wake at this moment of `performance.now()`, and not before; the moments that were asked for before are forgotten. */
  arm(dueMs: number): void {
    const ms = Math.max(dueMs, this.#wokenMs + LEAST_GAP_MS)
    if (ms === this.#armed) return
    const sooner = ms < this.#armed
    this.#armed = ms
    this.#next[0] = performance.timeOrigin + ms
    // A thread that waits for something sooner finds the new moment by itself.
    if (!sooner) return
    Atomics.add(this.#cells, 0, 1)
    Atomics.notify(this.#cells, 0)
  }

  async close(): Promise<void> {
    await this.#worker.terminate()
  }
}
