/**
 * Earliest deadline first: each item's turn comes `1 / weight` after its last, so that over time everybody gets his weight's share
 * and turns are spread evenly. A binary heap: a pick costs O(log n) and allocates nothing.
 */
export class EdfSchedule<T> {
  readonly #items: readonly T[]
  readonly #weigh: (item: T) => number
  /** Heap of indices into `#items`; the item whose deadline is next is at 0. */
  readonly #heap: Uint32Array
  readonly #deadlines: Float64Array
  /** Who came first at equal deadlines. */
  readonly #order: Float64Array
  #now = 0
  #turns = 0

  /** `weigh` is asked again at each turn; it must be above 0. */
  constructor(items: readonly T[], weigh: (item: T) => number) {
    this.#items = items
    this.#weigh = weigh
    this.#heap = new Uint32Array(items.length)
    this.#deadlines = new Float64Array(items.length)
    this.#order = new Float64Array(items.length)
    for (const [index, item] of items.entries()) {
      this.#heap[index] = index
      this.#deadlines[index] = 1 / weigh(item)
      this.#order[index] = this.#turns++
    }
    for (let at = (items.length >> 1) - 1; at >= 0; at -= 1) this.#sink(at)
  }

  /** The next in turn; undefined when there is nobody at all. */
  pick(): T | undefined {
    const index = this.#heap[0]
    if (index === undefined) return undefined
    const item = this.#items[index] as T
    this.#now = this.#deadlines[index] ?? 0
    this.#deadlines[index] = this.#now + 1 / this.#weigh(item)
    this.#order[index] = this.#turns++
    this.#sink(0)
    return item
  }

  #before(a: number, b: number): boolean {
    const difference = (this.#deadlines[a] ?? 0) - (this.#deadlines[b] ?? 0)
    return difference < 0 || (difference === 0 && (this.#order[a] ?? 0) < (this.#order[b] ?? 0))
  }

  #sink(from: number): void {
    const heap = this.#heap
    const moving = heap[from] ?? 0
    let at = from
    for (;;) {
      let child = 2 * at + 1
      if (child >= heap.length) break
      if (child + 1 < heap.length && this.#before(heap[child + 1] ?? 0, heap[child] ?? 0)) child += 1
      if (!this.#before(heap[child] ?? 0, moving)) break
      heap[at] = heap[child] ?? 0
      at = child
    }
    heap[at] = moving
  }
}
