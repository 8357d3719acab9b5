import { attachCrls } from '../identity/attach-crls.ts'
import { parseCertificate } from '../identity/certificate.ts'
import { parseCrlsPem } from '../identity/crl.ts'
import { type CredentialSource, type Identity, IdentityKeeper, judgeIdentity } from '../identity/identity.ts'
import { parseCertificatesPem } from '../identity/pem.ts'
import { parseSpiffeId } from '../identity/spiffe-id.ts'
import { TrustBundle } from '../identity/trust-bundle.ts'
import { Backoff } from '../lib/backoff.ts'
import { type Clock, systemClock } from '../lib/clock.ts'
import type { Logger } from '../lib/log.ts'
import { fail, formatProblem, ok, type Problem, problem, type Result } from '../lib/result.ts'
import type { ClientState } from '../xds/client.ts'
import { XdsConnection } from '../xds/connection.ts'
import { rawType } from '../xds/resource-types.ts'
import { type NodeInfo, TYPE, type XdsResource } from '../xds/types.ts'
import { readCertificate, readTrust, type SdsCertificate, type SdsTrust } from './sds-secret.ts'

/** What was refused may become good without a change: a certificate that is not valid yet. */
const JUDGE_AGAIN_MS = 1_000

/** As it comes: what is wrong with one is said in the words of its fields. */
const SECRET = rawType(TYPE.secret)

/** One of the two that we ask for. */
interface Secret {
  readonly name: string
  readonly connection: XdsConnection
  /** What it returns refuses the resource. */
  readonly take: (resource: XdsResource) => readonly Problem[]
}

export interface SdsCredentialsOptions {
  /** Unix socket of the agent. */
  readonly path: string
  /** Name of the Secret with our certificate: `default` at Istio's agent and SPIRE's, or a SPIFFE id. */
  readonly certificateName: string
  /** Name of the Secret with the trust: `ROOTCA`; `ALL` for all of SPIRE's bundles. */
  readonly trustName: string
  readonly node: NodeInfo
  readonly logger: Logger
  /** Default: the system's. */
  readonly clock?: Clock
}

/**
 * Our own credential from an SDS server on this machine (Istio's agent, SPIRE's): the private key is in memory only. One stream per
 * Secret, State of the World, as Envoy asks and as these agents answer. What was good stays in force while the agent is away, and
 * until certificate and trust fit each other again.
 */
export class SdsCredentials implements CredentialSource {
  readonly #options: SdsCredentialsOptions
  readonly #clock: Clock
  readonly #keeper: IdentityKeeper
  readonly #object: string
  readonly #secrets: readonly Secret[]
  #certificate: SdsCertificate | undefined
  #trust: SdsTrust | undefined
  #cancelAgain: () => void = () => {}

  constructor(options: SdsCredentialsOptions) {
    this.#options = options
    this.#clock = options.clock ?? systemClock
    this.#keeper = new IdentityKeeper('SDS', options.logger)
    this.#object = `sds:unix:${options.path}`
    this.#secrets = [
      this.#secret(options.certificateName, (resource) => this.#takeCertificate(resource)),
      this.#secret(options.trustName, (resource) => this.#takeTrust(resource)),
    ]
  }

  /** Resolves at once: what the agent sends comes when it comes. */
  async start(): Promise<void> {
    for (const { name, connection, take } of this.#secrets) {
      connection.watch(SECRET, [name], ({ changed, reject }) => {
        for (const resource of changed.values())
          for (const { field, message } of take(resource))
            reject(field === '' ? message : `${field}: ${message}`, resource.name)
      })
    }
  }

  stop(): void {
    this.#cancelAgain()
    for (const { connection } of this.#secrets) connection.stop()
  }

  current(): Identity | undefined {
    return this.#keeper.current
  }

  onChange(callback: () => void): () => void {
    return this.#keeper.onChange(callback)
  }

  /** A stream that is lost, or that has not answered yet, is a problem, whatever is in force. */
  problems(): readonly Problem[] {
    const waiting = this.#secrets.flatMap(({ name, connection }) => {
      const message = this.#trouble(name, connection.state)
      return message === undefined ? [] : [problem(this.#object, name, message)]
    })
    return [...this.#keeper.problems, ...waiting]
  }

  #trouble(name: string, state: ClientState): string | undefined {
    if (state.phase !== 'connected' && state.lastError !== '') return state.lastError
    const { certificateName } = this.#options
    const received = name === certificateName ? this.#certificate : this.#trust
    return received === undefined ? 'no answer yet' : undefined
  }

  #secret(name: string, take: Secret['take']): Secret {
    const { path, node, logger } = this.#options
    const connection = new XdsConnection({
      target: { path },
      service: 'sds',
      mode: 'sotw',
      node,
      logger: logger.child({ secret: name }),
      clock: this.#clock,
      // On the same machine, and back within moments.
      backoff: new Backoff({ baseMs: 100, maxMs: 2_000 }),
    })
    return { name, connection, take }
  }

  #takeCertificate(resource: XdsResource): readonly Problem[] {
    const certificate = readCertificate(resource)
    if (!certificate.ok) return this.#refuse(resource, certificate.error)
    this.#certificate = certificate.value
    return this.#judge(resource)
  }

  #takeTrust(resource: XdsResource): readonly Problem[] {
    const trust = readTrust(resource)
    if (!trust.ok) return this.#refuse(resource, trust.error)
    this.#trust = trust.value
    return this.#judge(resource)
  }

  #refuse({ name }: XdsResource, why: Problem): readonly Problem[] {
    this.#keeper.take(fail({ ...why, object: `${this.#object} ${why.object}` }))
    return [{ ...why, object: name }]
  }

  /** The problem goes to the agent, as a NACK of what it sent last, and to whoever asks us. */
  #judge(resource?: XdsResource): readonly Problem[] {
    if (this.#certificate === undefined || this.#trust === undefined) return []
    this.#cancelAgain()
    const judged = judge(this.#certificate, this.#trust, this.#object, this.#options, this.#clock.now())
    this.#keeper.take(judged)
    if (judged.ok) return []
    this.#cancelAgain = this.#clock.after(JUDGE_AGAIN_MS, () => void this.#judge())
    return resource === undefined ? [] : [problem(resource.name, '', formatProblem(judged.error))]
  }
}

function judge(
  certificate: SdsCertificate,
  trust: SdsTrust,
  object: string,
  { certificateName, trustName }: SdsCredentialsOptions,
  nowMs: number,
): Result<Identity, Problem> {
  const own = trustDomainOf(certificate.certificate)
  const bundle = trust.trustDomains.size === 0 ? trust.trustedCa : (trust.trustDomains.get(own) ?? '')
  const federated: TrustBundle[] = []
  for (const [trustDomain, pem] of trust.trustDomains) {
    if (trustDomain === own) continue
    const parsed = TrustBundle.parse(trustDomain, pem, `${object} ${trustName}`)
    if (!parsed.ok) return parsed
    federated.push(parsed.value)
  }
  const names = {
    object,
    certificate: `${certificateName}.certificate_chain`,
    privateKey: `${certificateName}.private_key`,
    bundle: trustName,
    crl: `${trustName}.crl`,
  }
  const identity = judgeIdentity({ ...certificate, bundle, crl: '', federated }, names, nowMs)
  if (!identity.ok || trust.crl.trim() === '') return identity
  const crls = parseCrlsPem(trust.crl)
  const bundles = [identity.value.bundle, ...federated]
  const attached = crls.ok ? attachCrls(bundles, crls.value) : crls
  if (!attached.ok) return fail(problem(object, names.crl, attached.error))
  const [ours = identity.value.bundle, ...others] = attached.value.bundles
  return ok({ ...identity.value, bundle: ours, federated: others })
}

/** Of the leaf; '' where it has none, which is then said by whoever judges it. */
function trustDomainOf(pem: string): string {
  const blocks = parseCertificatesPem(pem)
  const leaf = blocks.ok ? parseCertificate(blocks.value[0]?.der ?? new Uint8Array()) : undefined
  const uri = leaf?.ok ? leaf.value.extensions.alternativeNames.find(({ kind }) => kind === 'uri') : undefined
  const id = parseSpiffeId(uri?.value ?? '')
  return id.ok ? id.value.trustDomain : ''
}
