import type { X509Certificate } from 'node:crypto'
import { type CrlStatus, crlStatus } from '../identity/attach-crls.ts'
import { openX509 } from '../identity/ca-certificate.ts'
import { parseCertificatesPem } from '../identity/pem.ts'
import { acceptSecret } from '../resources/accept-secret.ts'
import { type Snapshot, TYPE, type XdsResource } from '../xds/types.ts'

/** The certificates of one Secret: our own chain, or the CAs of one trust domain. */
export interface CertificatesInForce {
  /** SDS name of the Secret. */
  readonly secret: string
  readonly use: 'chain' | 'trust'
  /** Of our own id, or the one that the CAs vouch for. */
  readonly trustDomain: string
  /** A chain begins with the leaf. */
  readonly certificates: readonly X509Certificate[]
  /** Of these CAs. */
  readonly crls: readonly CrlStatus[]
}

/** Secrets do not change between two scrapes, and reading one is work. */
const known = new WeakMap<XdsResource, readonly CertificatesInForce[]>()

/** What of a snapshot is certificates, by the names of the Secrets. Private keys are not looked at. */
export function certificatesInForce(snapshot: Snapshot): readonly CertificatesInForce[] {
  const secrets = [...(snapshot.get(TYPE.secret)?.values() ?? [])]
  secrets.sort((a, b) => (a.name < b.name ? -1 : 1))
  return secrets.flatMap((secret) => {
    const found = known.get(secret) ?? read(secret)
    known.set(secret, found)
    return found
  })
}

function read(resource: XdsResource): readonly CertificatesInForce[] {
  const secret = acceptSecret(resource)
  if (!secret.ok) return []
  if (secret.value.kind === 'credential') {
    const { certificatePem, id } = secret.value.credential
    const blocks = parseCertificatesPem(certificatePem)
    const certificates = blocks.ok ? blocks.value.flatMap(({ der }) => openX509(der) ?? []) : []
    return [{ secret: resource.name, use: 'chain', trustDomain: id.trustDomain, certificates, crls: [] }]
  }
  const { bundles } = secret.value
  const crls = crlStatus(bundles, Date.now())
  return bundles.trustDomains.map((trustDomain) => ({
    secret: resource.name,
    use: 'trust',
    trustDomain,
    certificates: bundles.get(trustDomain)?.certificates.map(({ x509 }) => x509) ?? [],
    crls: crls.filter((crl) => crl.trustDomain === trustDomain),
  }))
}
