import { CredentialFiles } from '../identity/credential-files.ts'
import { type CredentialSource, type Identity, IdentityKeeper, judgeIdentity } from '../identity/identity.ts'
import { discoveryId } from '../identity/spiffe-id.ts'
import { discoveryTls } from '../identity/tls.ts'
import { TrustBundles } from '../identity/trust-bundle.ts'
import { type Clock, systemClock } from '../lib/clock.ts'
import type { Logger } from '../lib/log.ts'
import { fail, formatProblem, type Problem, problem, type Result } from '../lib/result.ts'
import { XdsConnection } from '../xds/connection.ts'
import { rawType } from '../xds/resource-types.ts'
import { type NodeInfo, TYPE, type XdsResource } from '../xds/types.ts'
import { readCertificate } from './sds-secret.ts'

/** As it comes: what is wrong with one is said in the words of its fields. */
const SECRET = rawType(TYPE.secret)
/** Name of the Secret with our certificate, at our discovery servers. */
const OWN_CERTIFICATE = 'default'

export interface DiscoveryCredentialsOptions {
  /** Of the discovery server, `host:port`. */
  readonly address: string
  /** Files as `CredentialFiles` reads them: who we are to begin with, and whom we trust all the time. */
  readonly directory: string
  readonly node: NodeInfo
  readonly logger: Logger
  /** Default: the system's. */
  readonly clock?: Clock
}

/**
 * Our own credential, minted by a discovery server: it is asked over mutual TLS, with the certificate from files at first and with what it
 * minted after that, and sends a new one at half the life of the last. The key is in memory only. When the minted one ends and no new
 * one came, the files count again.
 */
export class DiscoveryCredentials implements CredentialSource {
  readonly #options: DiscoveryCredentialsOptions
  readonly #clock: Clock
  readonly #files: CredentialFiles
  readonly #keeper: IdentityKeeper
  readonly #connection: XdsConnection
  readonly #listeners = new Set<() => void>()
  #cancelEnd: () => void = () => {}
  #ended = false

  constructor(options: DiscoveryCredentialsOptions) {
    const { address, directory, node, logger } = options
    this.#options = options
    this.#clock = options.clock ?? systemClock
    this.#files = new CredentialFiles({ directory, logger, clock: this.#clock })
    this.#keeper = new IdentityKeeper('discovery SDS', logger)
    this.#files.onChange(() => this.#tell())
    this.#keeper.onChange(() => this.#tell())
    this.#connection = new XdsConnection({
      // A minted certificate opens no new stream, for that would be sent another one: the open stream renews it.
      target: {
        address,
        credential: { tls: () => this.#tls(), onChange: (told) => this.#files.onChange(told) },
      },
      service: 'sds',
      node,
      logger,
      clock: this.#clock,
    })
  }

  /** Reads the files once; what discovery sends comes when it comes. */
  async start(): Promise<void> {
    await this.#files.start()
    this.#connection.watch(SECRET, [OWN_CERTIFICATE], ({ changed, reject }) => {
      for (const resource of changed.values()) {
        const judged = this.#judge(resource)
        this.#keeper.take(judged)
        if (judged.ok) this.#endsAt(judged.value.credential.notAfterMs)
        else reject(formatProblem(judged.error), resource.name)
      }
    })
  }

  stop(): void {
    this.#cancelEnd()
    this.#connection.stop()
    this.#files.stop()
  }

  /** Minted, as long as that is valid; else from the files. */
  current(): Identity | undefined {
    const minted = this.#ended ? undefined : this.#keeper.current
    return minted ?? this.#files.current()
  }

  onChange(callback: () => void): () => void {
    this.#listeners.add(callback)
    return () => this.#listeners.delete(callback)
  }

  /** That discovery cannot be asked is a problem, whatever is in force. */
  problems(): readonly Problem[] {
    const { phase, lastError } = this.#connection.state
    const object = `discovery:${this.#options.address}`
    const lost = phase !== 'connected' && lastError !== '' ? [problem(object, '', lastError)] : []
    return [...this.#files.problems(), ...this.#keeper.problems, ...lost]
  }

  #tls() {
    const identity = this.current()
    if (identity === undefined) return undefined
    const bundles = new TrustBundles([identity.bundle, ...identity.federated])
    const server = discoveryId(identity.credential.id.trustDomain)
    return discoveryTls(identity.credential, bundles, this.#clock, [server])
  }

  /** What is minted must be for the id that the files have, and be vouched for by their bundle. */
  #judge(resource: XdsResource): Result<Identity, Problem> {
    const object = `discovery:${this.#options.address}`
    const files = this.#files.current()
    const minted = readCertificate(resource)
    if (!minted.ok) return fail({ ...minted.error, object: `${object} ${minted.error.object}` })
    if (files === undefined) return fail(problem(object, '', 'the files have no credential any more'))
    const { bundle, federated, credential } = files
    const names = {
      object,
      certificate: 'default.certificate_chain',
      privateKey: 'default.private_key',
      bundle: 'ca.crt',
      crl: 'ca.crl',
    }
    const crl = bundle.crls.map((bound) => bound.crl.pem).join('')
    const parts = { ...minted.value, bundle: bundle.pem, crl, federated }
    const judged = judgeIdentity(parts, names, this.#clock.now())
    if (!judged.ok || judged.value.credential.id.uri === credential.id.uri) return judged
    const message = `is for ${judged.value.credential.id.uri}, we are ${credential.id.uri}`
    return fail(problem(object, names.certificate, message))
  }

  #endsAt(ms: number): void {
    this.#ended = false
    this.#cancelEnd()
    this.#cancelEnd = this.#clock.after(Math.max(0, ms - this.#clock.now()), () => {
      this.#ended = true
      this.#tell()
    })
  }

  #tell(): void {
    for (const listener of [...this.#listeners]) {
      try {
        listener()
      } catch (error) {
        this.#options.logger.error({ err: error }, 'BUG: a listener to credential changes threw')
      }
    }
  }
}
