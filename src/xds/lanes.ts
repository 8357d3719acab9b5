/** Something to do: at once, or later if it returns a promise, which must not reject. */
export type Task = () => Promise<void> | undefined

/** Does the tasks of each lane one after the other; lanes do not wait for each other. What is done at once needs no turn of the loop. */
export class Lanes {
  readonly #lanes = new Map<string, { readonly queue: Task[]; busy: boolean }>()

  push(name: string, task: Task): void {
    const lane = this.#lanes.get(name) ?? { queue: [], busy: false }
    this.#lanes.set(name, lane)
    lane.queue.push(task)
    this.#work(lane)
  }

  #work(lane: { readonly queue: Task[]; busy: boolean }): void {
    while (!lane.busy) {
      const next = lane.queue.shift()
      if (next === undefined) return
      const taken = next()
      if (taken === undefined) continue
      lane.busy = true
      void taken.finally(() => {
        lane.busy = false
        this.#work(lane)
      })
    }
  }
}
