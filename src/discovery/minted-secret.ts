// SVIDs for the clients of discovery: each stream that asks for `default` over mutual TLS gets a certificate of its own, for the SPIFFE
// id that it proved and for no other. The key is made for the stream, kept for as long as the stream asks, and shown to nobody else.
import { Backoff } from '../lib/backoff.ts'
import type { Clock } from '../lib/clock.ts'
import type { Logger } from '../lib/log.ts'
import type { Result } from '../lib/result.ts'
import { OWN_CERTIFICATE } from '../resources/envoy.ts'
import { ownSecret } from '../resources/own-secret.ts'
import type { Changes, ViewSource } from '../xds/snapshot-cache.ts'
import { type Snapshot, TYPE, type XdsResource } from '../xds/types.ts'

export interface Minted {
  readonly certificatePem: string
  /** PKCS#8. */
  readonly privateKeyPem: string
  /** Milliseconds since the epoch. */
  readonly notAfterMs: number
}

export interface MinterOptions {
  /** Signs an SVID for exactly this id; an error says why there is none now. */
  mint(id: string): Promise<Result<Minted, string>>
  readonly clock: Clock
  readonly logger: Logger
}

/** Makes SVIDs one after the other: a thousand clients at once take turns with everything else that discovery does. */
export class Minter {
  readonly #options: MinterOptions
  #last: Promise<unknown> = Promise.resolve()
  #minted = 0
  #failed = 0

  constructor(options: MinterOptions) {
    this.#options = options
  }

  get counters(): { readonly minted: number; readonly failed: number } {
    return { minted: this.#minted, failed: this.#failed }
  }

  /** The Secrets of one stream: those of its view, and its own, which it keeps when it gets another view. */
  source(base: ViewSource, id: string, previous?: MintedSource): MintedSource {
    const before = previous?.id === id ? previous : undefined
    return new MintedSource(base, id, this.#options.clock, () => this.#mint(id), before)
  }

  async #mint(id: string): Promise<Minted | undefined> {
    const turn = this.#last.then(() => this.#options.mint(id))
    this.#last = turn.catch(() => {})
    const minted = await turn.catch(
      (error: Error): Result<Minted, string> => ({ ok: false, error: error.message }),
    )
    if (minted.ok) {
      this.#minted++
      return minted.value
    }
    this.#failed++
    this.#options.logger.warn({ id, reason: minted.error }, 'no SVID could be minted')
    return undefined
  }
}

/** One stream's Secrets. Nothing in it is the object of another view, so that nobody's frame is kept with a key in it. */
export class MintedSource implements ViewSource {
  readonly base: ViewSource
  readonly id: string
  readonly #clock: Clock
  readonly #mint: () => Promise<Minted | undefined>
  readonly #watchers = new Set<(changes: Changes) => void>()
  readonly #backoff = new Backoff({ baseMs: 1_000, maxMs: 60_000 })
  readonly #copies = new WeakMap<XdsResource, XdsResource>()
  #own: XdsResource | undefined
  #asked = false
  #minting = false
  #cancelRenewal: () => void = () => {}
  #built:
    | { readonly from: Snapshot; readonly own: XdsResource | undefined; readonly snapshot: Snapshot }
    | undefined

  constructor(
    base: ViewSource,
    id: string,
    clock: Clock,
    mint: () => Promise<Minted | undefined>,
    previous: MintedSource | undefined,
  ) {
    this.base = base
    this.id = id
    this.#clock = clock
    this.#mint = mint
    if (previous === undefined) return
    this.#own = previous.#own
    if (previous.#asked) this.asked([OWN_CERTIFICATE])
  }

  get scope(): string | undefined {
    return this.base.scope
  }

  identifier(): string {
    return this.base.identifier?.() ?? ''
  }

  current(): Snapshot {
    const from = this.base.current()
    if (this.#built?.from === from && this.#built.own === this.#own) return this.#built.snapshot
    const secrets = new Map<string, XdsResource>()
    for (const [name, resource] of from.get(TYPE.secret) ?? []) secrets.set(name, this.#copy(resource))
    if (this.#own !== undefined) secrets.set(OWN_CERTIFICATE, this.#own)
    const snapshot = new Map([[TYPE.secret, secrets]])
    this.#built = { from, own: this.#own, snapshot }
    return snapshot
  }

  /** A key is made only for who asks for one, once until its half-life. */
  asked(names: readonly string[]): void {
    if (this.#asked || !names.includes(OWN_CERTIFICATE)) return
    this.#asked = true
    void this.#renew()
  }

  watch(callback: (changes: Changes) => void): () => void {
    this.#watchers.add(callback)
    const stop = this.base.watch((changes) => {
      const secrets = changes.get(TYPE.secret)
      if (secrets !== undefined) callback(new Map([[TYPE.secret, secrets]]))
    })
    return () => {
      stop()
      this.#watchers.delete(callback)
      if (this.#watchers.size === 0) this.#forget()
    }
  }

  async #renew(): Promise<void> {
    if (this.#minting) return
    this.#minting = true
    const minted = await this.#mint()
    this.#minting = false
    // The stream may have ended meanwhile.
    if (!this.#asked) return
    if (minted === undefined) {
      this.#cancelRenewal = this.#clock.after(this.#backoff.next(), () => void this.#renew())
      return
    }
    this.#backoff.reset()
    this.#own = ownSecret(minted)
    const leftMs = Math.max(0, minted.notAfterMs - this.#clock.now())
    this.#cancelRenewal = this.#clock.after(Math.max(1_000, leftMs / 2), () => void this.#renew())
    const changes = new Map([[TYPE.secret, new Set([OWN_CERTIFICATE])]])
    for (const watcher of [...this.#watchers]) watcher(changes)
  }

  #copy(resource: XdsResource): XdsResource {
    const copy = this.#copies.get(resource) ?? { ...resource }
    this.#copies.set(resource, copy)
    return copy
  }

  #forget(): void {
    this.#cancelRenewal()
    this.#asked = false
    this.#own = undefined
    this.#built = undefined
  }
}
