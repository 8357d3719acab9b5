import { CredentialFiles } from '../identity/credential-files.ts'
import type { CredentialSource } from '../identity/identity.ts'
import { discoveryTls } from '../identity/tls.ts'
import { TrustBundles } from '../identity/trust-bundle.ts'
import { type Clock, systemClock } from '../lib/clock.ts'
import { type Logger, silentLogger } from '../lib/log.ts'
import type { Problem } from '../lib/result.ts'
import type { ClientTls } from './client-channel.ts'
import type { XdsCredential } from './connection.ts'

export interface MutualTlsOptions {
  /** Holds `tls.crt`, `tls.key` and `ca.crt`, as a mounted `kubernetes.io/tls` Secret does, and perhaps `ca.crl`. */
  readonly directory: string
  /** SPIFFE ids of the servers that may answer. */
  readonly serverIds: readonly string[]
  readonly logger?: Logger
  /** Default: the system's. */
  readonly clock?: Clock
}

/**
 * Mutual TLS with an X.509-SVID from files. They are read again within a second of a change, and what was good stays in force until
 * something better is complete; the server is who it should be by its SPIFFE id, whatever its address.
 */
export class MutualTls implements XdsCredential {
  readonly #source: CredentialSource
  readonly #serverIds: readonly string[]
  readonly #clock: Clock

  constructor(options: MutualTlsOptions) {
    const { directory, logger = silentLogger, clock = systemClock } = options
    this.#source = new CredentialFiles({ directory, logger, clock })
    this.#serverIds = options.serverIds
    this.#clock = clock
  }

  /** Reads the files once, then watches. Resolves also when they are missing or broken: see `problems`. */
  start(): Promise<void> {
    return this.#source.start()
  }

  stop(): void {
    this.#source.stop()
  }

  problems(): readonly Problem[] {
    return this.#source.problems()
  }

  tls(): ClientTls | undefined {
    const identity = this.#source.current()
    if (identity === undefined) return undefined
    const bundles = new TrustBundles([identity.bundle, ...identity.federated])
    return discoveryTls(identity.credential, bundles, this.#clock, this.#serverIds)
  }

  onChange(callback: () => void): () => void {
    return this.#source.onChange(callback)
  }
}
