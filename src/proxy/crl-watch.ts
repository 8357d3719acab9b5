import { nameOf } from '../identity/attach-crls.ts'
import type { Crl } from '../identity/crl.ts'
import type { BoundCrl, RevocationMode } from '../identity/revocation.ts'
import type { Clock } from '../lib/clock.ts'
import type { Logger } from '../lib/log.ts'

export interface CrlWatchOptions {
  readonly clock: Clock
  readonly logger: Logger
  readonly mode: RevocationMode
  /** The CRLs in force. */
  readonly crls: () => readonly BoundCrl[]
  /** A CRL has ended on which it depends who is let in (`hard-fail`). */
  readonly onEnd: () => void
}

/** Says once of each CRL that it has ended, and has everybody judged again where that matters. */
export class CrlWatch {
  readonly #options: CrlWatchOptions
  readonly #said = new WeakSet<Crl>()
  #cancel: () => void = () => {}

  constructor(options: CrlWatchOptions) {
    this.#options = options
  }

  /** To be called when the CRLs in force have changed. */
  update(): void {
    this.#cancel()
    const { clock, crls } = this.#options
    const nowMs = clock.now()
    let nextMs: number | undefined
    for (const bound of crls()) {
      const { nextUpdateMs } = bound.crl
      if (nextUpdateMs < nowMs) this.#say(bound)
      else if (nextMs === undefined || nextUpdateMs < nextMs) nextMs = nextUpdateMs
    }
    if (nextMs !== undefined) this.#cancel = clock.after(nextMs - nowMs + 1, () => this.#ended())
  }

  stop(): void {
    this.#cancel()
  }

  #ended(): void {
    this.update()
    if (this.#options.mode === 'hard-fail') this.#options.onEnd()
  }

  #say({ crl, issuer }: BoundCrl): void {
    if (this.#said.has(crl)) return
    this.#said.add(crl)
    const { logger, mode } = this.#options
    const ended = { issuer: nameOf(issuer), nextUpdate: new Date(crl.nextUpdateMs).toISOString() }
    const meaning =
      mode === 'hard-fail'
        ? 'whoever this CA signed is refused until there is a fresh one'
        : 'whom it revoked stays revoked, whom its CA has revoked since is not known'
    logger.warn(ended, `a CRL has ended: ${meaning}`)
  }
}
