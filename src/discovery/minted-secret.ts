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

/** How often the same failure is said, milliseconds. */
const SAY_AGAIN_MS = 60_000

/** Whose turn it is to get a certificate. */
interface Waiting {
  /** False once the stream has gone: then it costs nothing any more. */
  wanted(): boolean
  done(minted: Minted | undefined): void
}

/**
 * Makes SVIDs one after the other, identity by identity in turn: a thousand clients at once leave room for everything else that discovery
 * does, and an identity that opens a thousand streams waits for itself.
 */
export class Minter {
  readonly #options: MinterOptions
  /** By id; the one that had its turn longest ago comes first. */
  readonly #queues = new Map<string, Waiting[]>()
  #busy = false
  #minted = 0
  #failed = 0
  #said = { reason: '', atMs: 0 }

  constructor(options: MinterOptions) {
    this.#options = options
  }

  get counters(): { readonly minted: number; readonly failed: number } {
    return { minted: this.#minted, failed: this.#failed }
  }

  /** The Secrets of one stream: those of its view, and its own, which it keeps when it gets another view. */
  source(base: ViewSource, id: string, previous?: MintedSource): MintedSource {
    const before = previous?.id === id ? previous : undefined
    const mint = (wanted: () => boolean) =>
      new Promise<Minted | undefined>((done) => {
        const queue = this.#queues.get(id) ?? []
        queue.push({ wanted, done })
        this.#queues.set(id, queue)
        void this.#work()
      })
    return new MintedSource(base, id, this.#options.clock, mint, before)
  }

  async #work(): Promise<void> {
    if (this.#busy) return
    this.#busy = true
    for (;;) {
      const [next] = this.#queues
      if (next === undefined) break
      const [id, queue] = next
      const first = queue.shift()
      this.#queues.delete(id)
      if (queue.length > 0) this.#queues.set(id, queue)
      first?.done(first.wanted() ? await this.#mint(id) : undefined)
    }
    this.#busy = false
  }

  /** A CA that is missing is missing for everybody: one line says so, and another if it is still so a minute later. */
  #say(id: string, reason: string): void {
    const nowMs = this.#options.clock.now()
    if (reason === this.#said.reason && nowMs < this.#said.atMs + SAY_AGAIN_MS) return
    this.#said = { reason, atMs: nowMs }
    this.#options.logger.warn({ id, reason }, 'no SVID could be minted')
  }

  async #mint(id: string): Promise<Minted | undefined> {
    const minted = await this.#options
      .mint(id)
      .catch((error: Error): Result<Minted, string> => ({ ok: false, error: error.message }))
    if (minted.ok) {
      this.#minted++
      return minted.value
    }
    this.#failed++
    this.#say(id, minted.error)
    return undefined
  }
}

/** One stream's Secrets. Nothing in it is the object of another view, so that nobody's frame is kept with a key in it. */
export class MintedSource implements ViewSource {
  readonly base: ViewSource
  readonly id: string
  readonly #clock: Clock
  readonly #mint: (wanted: () => boolean) => Promise<Minted | undefined>
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
    mint: (wanted: () => boolean) => Promise<Minted | undefined>,
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
    const minted = await this.#mint(() => this.#asked)
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
