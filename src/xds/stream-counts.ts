import { type Refusal, reasonOf } from './grpc.ts'

/** How many streams each identity has open, and how many were refused, by reason. */
export class StreamCounts {
  readonly #open = new Map<string, number>()
  readonly #refusals = new Map<string, number>()
  readonly #maxPerIdentity: number

  constructor(maxPerIdentity: number) {
    this.#maxPerIdentity = maxPerIdentity
  }

  /** Takes a place; false: all are taken. Who has no identity is not counted. */
  open(identity: string | undefined): boolean {
    if (identity === undefined) return true
    const open = this.#open.get(identity) ?? 0
    if (open >= this.#maxPerIdentity) return false
    this.#open.set(identity, open + 1)
    return true
  }

  closed(identity: string | undefined): void {
    if (identity === undefined) return
    const open = (this.#open.get(identity) ?? 0) - 1
    if (open > 0) this.#open.set(identity, open)
    else this.#open.delete(identity)
  }

  refused(why: Refusal): void {
    const reason = reasonOf(why)
    this.#refusals.set(reason, (this.#refusals.get(reason) ?? 0) + 1)
  }

  /** Handshakes, streams and messages that were refused since the start, by a reason out of a closed list. */
  get refusals(): ReadonlyMap<string, number> {
    return this.#refusals
  }
}
