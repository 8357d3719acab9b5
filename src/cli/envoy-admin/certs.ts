// `/certs` as Envoy has it: envoy.admin.v3.Certificates in protobuf's JSON, with the proto's field names.
import type { X509Certificate } from 'node:crypto'
import { parseCertificate } from '../../identity/certificate.ts'
import type { Snapshot } from '../../xds/types.ts'
import { certificatesInForce } from '../certificates-in-force.ts'

type Json = Readonly<Record<string, unknown>>

const DAY_MS = 86_400_000

/** One entry per Secret: our chain, leaf first, or the CAs of each trust domain. */
export function certs(snapshot: Snapshot, nowMs: number): Json {
  const bySecret = Map.groupBy(certificatesInForce(snapshot), ({ secret }) => secret)
  const certificates = [...bySecret].map(([secret, parts]): Json => {
    const details = (use: 'chain' | 'trust') =>
      parts
        .filter((part) => part.use === use)
        .flatMap((part) =>
          part.certificates.map((one) =>
            detailsOf(one, use === 'trust' ? `${part.trustDomain}: ${secret}` : secret, nowMs),
          ),
        )
    return { ca_cert: details('trust'), cert_chain: details('chain') }
  })
  return { certificates }
}

/** `CertificateDetails`. */
function detailsOf(certificate: X509Certificate, path: string, nowMs: number): Json {
  const { validFromDate, validToDate, serialNumber } = certificate
  return {
    path,
    serial_number: serialNumber.toLowerCase(),
    subject_alt_names: alternativeNames(certificate),
    days_until_expiration: String(Math.max(0, Math.floor((validToDate.getTime() - nowMs) / DAY_MS))),
    valid_from: isoSeconds(validFromDate),
    expiration_time: isoSeconds(validToDate),
  }
}

function alternativeNames({ raw }: X509Certificate): Json[] {
  const parsed = parseCertificate(raw)
  if (!parsed.ok) return []
  return parsed.value.extensions.alternativeNames.flatMap(({ kind, value }): Json[] => {
    if (kind === 'uri') return [{ uri: value }]
    return kind === 'dns' ? [{ dns: value }] : []
  })
}

function isoSeconds(date: Date): string {
  return `${date.toISOString().slice(0, 19)}Z`
}
