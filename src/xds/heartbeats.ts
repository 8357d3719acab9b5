import type { XdsResource } from './types.ts'

/** Two may be lost before a resource ends. */
const BEATS_PER_TTL = 3

/** When the resources that end by themselves have to be kept alive, by type. Pure: time is an argument, milliseconds. */
export class Heartbeats {
  readonly #due = new Map<string, { readonly atMs: number; readonly everyMs: number }>()

  /** These were sent, or kept alive. */
  sent(typeUrl: string, resources: readonly XdsResource[], nowMs: number): void {
    const ttls = resources.map(({ ttlMs }) => ttlMs).filter((ttl) => ttl !== undefined)
    if (ttls.length === 0) return
    const before = this.#due.get(typeUrl)
    const everyMs = Math.min(before?.everyMs ?? Number.POSITIVE_INFINITY, Math.min(...ttls) / BEATS_PER_TTL)
    this.#due.set(typeUrl, {
      everyMs,
      atMs: Math.min(before?.atMs ?? Number.POSITIVE_INFINITY, nowMs + everyMs),
    })
  }

  /** It is done for now; `more`: there is something left to keep alive. */
  beaten(typeUrl: string, more: boolean, nowMs: number): void {
    const before = this.#due.get(typeUrl)
    if (before === undefined) return
    if (more) this.#due.set(typeUrl, { ...before, atMs: nowMs + before.everyMs })
    else this.#due.delete(typeUrl)
  }

  /** Types whose time has come. */
  due(nowMs: number): string[] {
    return [...this.#due].filter(([, { atMs }]) => atMs <= nowMs).map(([typeUrl]) => typeUrl)
  }

  nextMs(nowMs: number): number | undefined {
    let next: number | undefined
    for (const { atMs } of this.#due.values())
      if (atMs > nowMs && (next === undefined || atMs < next)) next = atMs
    return next
  }
}
