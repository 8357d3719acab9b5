import type { LocalTrust } from '../../identity/federation-files.ts'
import type { Identity } from '../../identity/identity.ts'
import type { TrustBundle } from '../../identity/trust-bundle.ts'
import { type Problem, problem } from '../../lib/result.ts'
import { acceptSecret } from '../../resources/accept-secret.ts'
import { domainBundle, TRUST_BUNDLES, trustBundleSecret } from '../../resources/envoy.ts'
import { SecretSchema } from '../../xds/gen/envoy/extensions/transport_sockets/tls/v3/secret_pb.js'
import { encodeResource } from '../../xds/resource.ts'
import type { XdsResource } from '../../xds/types.ts'

type Secrets = ReadonlyMap<string, XdsResource>
/** By trust domain, from files. */
type Federation = ReadonlyMap<string, LocalTrust>

const NONE: ReadonlyMap<string, never> = new Map<string, never>()

/**
 * Puts what discovery says about trust together with what is decided here (decision 0008): a trust domain that has a bundle here is
 * decided here, in every validation context, and added to `ROOTCA`; CRLs that are here are added. The rest is discovery's.
 */
export class LocalTrustAssembly {
  #problems: readonly Problem[] = []
  #inputs: readonly unknown[] = []
  #assembled: Secrets = new Map()

  /** What is decided here and cannot count. */
  get problems(): readonly Problem[] {
    return this.#problems
  }

  /** The secrets for the worker. The same map for the same inputs; a resource that nothing here concerns is as it was. */
  assemble(secrets: Secrets = NONE, identity: Identity, federation: Federation = NONE): Secrets {
    const inputs = [secrets, identity, federation]
    if (inputs.every((input, index) => input === this.#inputs[index])) return this.#assembled
    const problems: Problem[] = []
    const local = localDomains(identity, federation, problems)
    this.#assembled =
      local.size === 0
        ? secrets
        : new Map(
            [...secrets].map(([name, resource]) => [name, assembleOne(resource, identity, local, problems)]),
          )
    this.#inputs = inputs
    this.#problems = problems
    return this.#assembled
  }
}

/** By trust domain. Files have the last word over what came with our credential; our own trust domain is that credential's. */
function localDomains(
  identity: Identity,
  federation: Federation,
  problems: Problem[],
): Map<string, LocalTrust> {
  const own = identity.credential.id.trustDomain
  const local = new Map<string, LocalTrust>()
  for (const bundle of identity.federated) local.set(bundle.trustDomain, { bundle, crls: [] })
  for (const [trustDomain, trust] of federation) {
    if (trustDomain === own) {
      const message = 'is our own trust domain, which the bundle of our own credential decides'
      problems.push(problem(`federation ${trustDomain}`, '', message))
    } else {
      const crls = [...(local.get(trustDomain)?.crls ?? []), ...trust.crls]
      local.set(trustDomain, { ...local.get(trustDomain), ...trust, crls })
    }
  }
  const crls = identity.bundle.crls.map(({ crl }) => crl)
  if (crls.length > 0) local.set(own, { crls })
  return local
}

function assembleOne(
  resource: XdsResource,
  identity: Identity,
  local: ReadonlyMap<string, LocalTrust>,
  problems: Problem[],
): XdsResource {
  const accepted = acceptSecret(resource)
  if (!accepted.ok || accepted.value.kind !== 'trust') return resource
  const everywhere = resource.name === TRUST_BUNDLES
  const received = accepted.value.bundles.list
  const listed = new Set(received.map(({ trustDomain }) => trustDomain))
  const bundles = received.filter(({ trustDomain }) => !decides(local.get(trustDomain)))
  for (const [trustDomain, { bundle }] of local)
    if (bundle !== undefined && (everywhere || listed.has(trustDomain))) bundles.push(bundle)
  const revoking = bundles.map((bundle) => withLocalCrls(bundle, local.get(bundle.trustDomain), problems))
  // A context without any trust domain is no valid resource, and refusing it would leave the last one in force. Trusting ourselves
  // alone is the least there can be.
  const least = revoking.length === 0 ? [identity.bundle] : revoking
  const sorted = least.map(domainBundle).sort((a, b) => (a.trustDomain < b.trustDomain ? -1 : 1))
  return encodeResource(SecretSchema, trustBundleSecret(sorted, resource.name), resource.name)
}

/** Whether the bundle is decided here, be it that there is none. */
function decides(trust: LocalTrust | undefined): boolean {
  return trust !== undefined && 'bundle' in trust
}

/** A list that does not count is named, and leaves the others in force. */
function withLocalCrls(bundle: TrustBundle, trust: LocalTrust | undefined, problems: Problem[]): TrustBundle {
  const crls = trust?.crls ?? []
  if (crls.length === 0) return bundle
  const { bundle: revoking, signed } = bundle.withCrls(crls)
  for (const [index, crl] of crls.entries()) {
    if (signed.has(crl)) continue
    const object = `CRLs of ${bundle.trustDomain}`
    problems.push(problem(object, `CRL ${index + 1}`, 'no CA of the bundle in force signed it'))
  }
  return revoking
}
