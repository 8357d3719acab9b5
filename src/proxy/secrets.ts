import type { Credential } from '../identity/credential.ts'
import type { BoundCrl } from '../identity/revocation.ts'
import { type TrustBundle, TrustBundles } from '../identity/trust-bundle.ts'
import { fail, ok, type Problem, problem, type Result } from '../lib/result.ts'
import type { SecretConfig, TlsConfig, UpstreamTls } from '../resources/accept-types.ts'

/** A credential and the trust to go with it, as one TLS context uses them. */
export interface TlsMaterial {
  readonly credential: Credential
  readonly bundles: TrustBundles
  /** Equal keys, equal material. */
  readonly key: string
}

/** The secrets in force, by SDS name. */
export class SecretStore {
  readonly #secrets = new Map<string, SecretConfig>()

  set(secret: SecretConfig): void {
    this.#secrets.set(secret.name, secret)
  }

  delete(name: string): void {
    this.#secrets.delete(name)
  }

  has(name: string): boolean {
    return this.#secrets.has(name)
  }

  list(): SecretConfig[] {
    return [...this.#secrets.values()].sort((a, b) => (a.name < b.name ? -1 : 1))
  }

  missing(names: readonly string[]): string[] {
    return names.filter((name) => !this.#secrets.has(name))
  }

  /** Of every validation context. */
  crls(): BoundCrl[] {
    return [...this.#secrets.values()].flatMap((secret) =>
      secret.kind === 'trust' ? secret.bundles.crls : [],
    )
  }

  /** What a TLS context needs; a problem names the secret that is missing or is of the wrong kind. */
  material(config: Pick<TlsConfig, 'credentialSecret' | 'trustSecret'>): Result<TlsMaterial, Problem> {
    const credential = this.#secrets.get(config.credentialSecret)
    const trust = this.#secrets.get(config.trustSecret)
    if (credential?.kind !== 'credential')
      return wrong(config.credentialSecret, credential, 'tls_certificate')
    if (trust?.kind !== 'trust') return wrong(config.trustSecret, trust, 'validation_context')
    const key = `${credential.version} ${trust.version}`
    return ok({ credential: credential.credential, bundles: trust.bundles, key })
  }

  /** The same for a server that is pinned: only the bundles of the trust domains that its ids name may vouch for it. */
  pinnedMaterial(tls: UpstreamTls): Result<TlsMaterial, Problem> {
    const material = this.material(tls)
    if (!material.ok) return material
    const { credential, bundles, key } = material.value
    const pinned: TrustBundle[] = []
    for (const trustDomain of tls.trustDomains) {
      const bundle = bundles.get(trustDomain)
      if (bundle === undefined)
        return fail(
          problem(`Secret ${tls.trustSecret}`, '', `has no bundle for the trust domain ${trustDomain}`),
        )
      pinned.push(bundle)
    }
    return ok({ credential, bundles: new TrustBundles(pinned), key: `${key} ${tls.trustDomains.join(' ')}` })
  }
}

function wrong(name: string, found: SecretConfig | undefined, expected: string): Result<never, Problem> {
  const message =
    found === undefined ? 'has not been received yet' : `expected ${expected}, found another kind`
  return fail(problem(`Secret ${name}`, '', message))
}
