/** The second refusal in a row is waited for this long, milliseconds; each further one twice as long as the one before. */
const FIRST_MS = 200
const LONGEST_MS = 5_000

/**
 * A client that refuses every version of a type gets the next ones further and further apart, and only the latest of what changed
 * meanwhile. The first refusal costs nothing: whoever corrects a mistake sees it corrected at once. Pure: time is an argument.
 */
export class NackDamping {
  readonly #types = new Map<string, { readonly inARow: number; readonly untilMs: number }>()

  refused(typeUrl: string, nowMs: number): void {
    const inARow = (this.#types.get(typeUrl)?.inARow ?? 0) + 1
    const waitMs = inARow < 2 ? 0 : Math.min(LONGEST_MS, FIRST_MS * 2 ** (inARow - 2))
    this.#types.set(typeUrl, { inARow, untilMs: nowMs + waitMs })
  }

  accepted(typeUrl: string): void {
    this.#types.delete(typeUrl)
  }

  holds(typeUrl: string, nowMs: number): boolean {
    const until = this.#types.get(typeUrl)?.untilMs
    return until !== undefined && until > nowMs
  }

  /** When the next type is free again, milliseconds; undefined when none is held. */
  nextMs(nowMs: number): number | undefined {
    let next: number | undefined
    for (const { untilMs } of this.#types.values())
      if (untilMs > nowMs && (next === undefined || untilMs < next)) next = untilMs
    return next
  }
}
