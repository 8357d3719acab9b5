import { networkInterfaces } from 'node:os'
import type { Clock } from '../lib/clock.ts'
import { ipBytes, mappedIpv4 } from './ip-bytes.ts'

/** As much of a listener as is looked for here. */
export interface Bound {
  /** The port that was asked for; 0 = any. */
  readonly config: { readonly address: { readonly port: number } }
  /** Where it listens, or will. */
  readonly boundTo: { readonly host: string; readonly port: number }
}

/** Addresses of this machine come and go rarely, and asking for them costs 50 µs. */
const FRESH_MS = 5_000
const ANY = new Set(['00000000', '0'.repeat(32)])

/** Finds listeners by address, for thousands of them in one look-up. */
export class ListenersByPort<L extends Bound> {
  readonly #listeners: ReadonlyMap<string, L>
  readonly #clock: Clock
  /** By the port that was asked for; undefined: to be made anew. */
  #index: Map<number, L[]> | undefined
  #own: ReadonlySet<string> = new Set()
  #ownMs = Number.NEGATIVE_INFINITY

  constructor(listeners: ReadonlyMap<string, L>, clock: Clock) {
    this.#listeners = listeners
    this.#clock = clock
  }

  /** The listeners are others now. */
  changed(): void {
    this.#index = undefined
  }

  /** The listener that was bound to exactly this address. */
  at(host: string, port: number): L | undefined {
    return this.#at(port).find(({ boundTo }) => boundTo.host === host)
  }

  /**
   * Whether a connection to this address would arrive at one of the listeners: an address may be spelt in many ways, and one bound to
   * all addresses answers at each of this machine's own.
   */
  reaches(host: string, port: number): boolean {
    const listeners = this.#at(port)
    if (listeners.length === 0) return false
    const address = canonical(host)
    return listeners.some(({ boundTo }) => {
      const bound = canonical(boundTo.host)
      return bound === address || (ANY.has(bound) && this.#isOwn(address))
    })
  }

  #at(port: number): readonly L[] {
    if (this.#index === undefined) {
      this.#index = new Map()
      for (const listener of this.#listeners.values()) {
        const { port: asked } = listener.config.address
        const same = this.#index.get(asked)
        if (same === undefined) this.#index.set(asked, [listener])
        else same.push(listener)
      }
    }
    const chosenByKernel = this.#index.get(0)
    // Asked for every connect of an upstream, and hardly ever so many.
    if (chosenByKernel === undefined) return this.#index.get(port) ?? NONE
    const any = chosenByKernel.filter(({ boundTo }) => boundTo.port === port)
    return port === 0 ? any : [...(this.#index.get(port) ?? NONE), ...any]
  }

  #isOwn(address: string): boolean {
    if (ANY.has(address) || address.startsWith('7f')) return true
    const nowMs = this.#clock.now()
    if (nowMs - this.#ownMs >= FRESH_MS) {
      this.#ownMs = nowMs
      const all = Object.values(networkInterfaces()).flatMap((addresses) => addresses ?? [])
      this.#own = new Set(all.map((each) => canonical(each.address)))
    }
    return this.#own.has(address)
  }
}

const NONE: readonly never[] = []

/** One spelling for each address: hexadecimal, IPv4 inside IPv6 taken out. */
function canonical(host: string): string {
  const bytes = ipBytes(host)
  if (bytes === undefined) return host
  const inner = mappedIpv4(bytes)
  return (inner === undefined ? bytes : (ipBytes(inner) ?? bytes)).toString('hex')
}
