// One watch: what its owner asked for, and how he is told, by callback or by iteration.
import { type Problem, problem } from '../lib/result.ts'

/** What has changed for one watch since it was last told. */
export interface XdsChange<T> {
  /** By name: all that the watch covers, as it would be with this change. Immutable. */
  readonly resources: ReadonlyMap<string, T>
  /** Those that are new, or have changed. */
  readonly changed: ReadonlyMap<string, T>
  /** Those that do not exist: taken away by the server, or asked for by name and not there. They stay subscribed. */
  readonly removed: readonly string[]
  /** `disk`: of an earlier run, `cache`: another watch had it; the server has not spoken yet, and hears of no verdict on these. */
  readonly source: 'server' | 'cache' | 'disk'
  /** The server's `version_info`, in Delta `system_version_info`; '' where it is not from the server. */
  readonly version: string
  /** The server's `control_plane.identifier`. */
  readonly identifier: string
  /**
   * Refuses one resource, or the whole change where no name is given: the server gets a NACK with the reason, and what was in force
   * before stays. Counts until the callback's promise is settled, or the next change is asked for.
   */
  reject(reason: string, name?: string): void
}

/** Takes a change. What it throws refuses the whole change. Returning (or resolving) without a `reject` accepts it. */
export type OnChange<T> = (change: XdsChange<T>) => void | Promise<void>

/** What a `reject` said: about one resource, or about all of a change. */
export interface Rejection {
  readonly name: string | undefined
  readonly reason: string
}

export interface WatchOwner {
  /** The names or the end of a watch have changed. */
  rewatched(): void
}

interface Delivery<T> {
  readonly change: XdsChange<T>
  readonly settle: (rejections: readonly Rejection[]) => void
  readonly rejections: Rejection[]
}

export type Wanted = readonly string[] | '*'

/**
 * What `watch` returns. With a callback changes are pushed to it; without one they are iterated over (`for await`), and a change is
 * accepted when the next one is asked for, so that a slow reader holds back the server and not the memory. One reader at a time.
 */
export class Watch<T> implements AsyncIterable<XdsChange<T>> {
  readonly #owner: WatchOwner
  readonly #onChange: OnChange<T> | undefined
  readonly #queue: Delivery<T>[] = []
  #wanted: Wanted
  #current: Delivery<T> | undefined
  #waiting: ((result: IteratorResult<XdsChange<T>, undefined>) => void) | undefined
  #stopped = false

  constructor(wanted: Wanted, owner: WatchOwner, onChange: OnChange<T> | undefined) {
    this.#wanted = wanted
    this.#owner = owner
    this.#onChange = onChange
  }

  get wanted(): Wanted {
    return this.#wanted
  }

  get stopped(): boolean {
    return this.#stopped
  }

  covers(name: string): boolean {
    return this.#wanted === '*' || this.#wanted.includes(name)
  }

  /** Wants other names from now on; only the difference is told to the server. */
  update(names: Wanted): void {
    if (this.#stopped) return
    this.#wanted = names
    this.#owner.rewatched()
  }

  /** Ends it. A change that was not decided on yet counts as accepted; an iteration that waits ends. */
  stop(): void {
    if (this.#stopped) return
    this.#stopped = true
    this.#settle()
    for (const { settle } of this.#queue.splice(0)) settle([])
    this.#waiting?.({ done: true, value: undefined })
    this.#waiting = undefined
    this.#owner.rewatched()
  }

  /** Hands a change over; resolves with the verdict. For the connection, not for the owner of the watch. */
  deliver(change: Omit<XdsChange<T>, 'reject'>): Promise<readonly Rejection[]> {
    if (this.#stopped) return Promise.resolve([])
    const rejections: Rejection[] = []
    const full = {
      ...change,
      reject: (reason: string, name?: string) => void rejections.push({ name, reason }),
    }
    return this.#onChange === undefined
      ? new Promise((settle) => this.#enqueue({ change: full, settle, rejections }))
      : this.#call(this.#onChange, full, rejections)
  }

  [Symbol.asyncIterator](): AsyncIterator<XdsChange<T>, undefined> {
    if (this.#onChange !== undefined) throw new Error('this watch has a callback; watch again to iterate')
    return {
      next: () => this.#next(),
      return: async () => {
        this.stop()
        return { done: true, value: undefined }
      },
    }
  }

  async #call(
    onChange: OnChange<T>,
    change: XdsChange<T>,
    rejections: Rejection[],
  ): Promise<readonly Rejection[]> {
    try {
      await onChange(change)
    } catch (error) {
      rejections.push({ name: undefined, reason: error instanceof Error ? error.message : String(error) })
    }
    return rejections
  }

  #enqueue(delivery: Delivery<T>): void {
    const { change } = delivery
    const waiting = this.#waiting
    if (waiting === undefined) {
      this.#queue.push(delivery)
      return
    }
    this.#waiting = undefined
    this.#current = delivery
    waiting({ done: false, value: change })
  }

  #next(): Promise<IteratorResult<XdsChange<T>, undefined>> {
    this.#settle()
    if (this.#stopped) return Promise.resolve({ done: true, value: undefined })
    const next = this.#queue.shift()
    if (next !== undefined) {
      this.#current = next
      return Promise.resolve({ done: false, value: next.change })
    }
    return new Promise((resolve) => {
      this.#waiting = resolve
    })
  }

  #settle(): void {
    const current = this.#current
    this.#current = undefined
    current?.settle(current.rejections)
  }
}

/** As the server is told. */
export function problemsOf(rejections: readonly Rejection[], changed: Iterable<string>): Problem[] {
  const names = [...changed]
  return rejections.flatMap(({ name, reason }) => {
    // A name that did not come with the change, a misspelt one: the safe reading is the whole change.
    const about = name !== undefined && names.includes(name) ? [name] : names
    return (about.length > 0 ? about : ['']).map((one) => problem(one, '', reason))
  })
}
