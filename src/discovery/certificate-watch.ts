import { type CaCertificate, openX509 } from '../identity/ca-certificate.ts'
import { parseCertificate } from '../identity/certificate.ts'
import type { TrustBundle } from '../identity/trust-bundle.ts'
import type { ModelCondition } from '../model/types.ts'

const DAY_MS = 86_400_000
/** A CA is replaced by people, who need notice; one that lives for days only, and any leaf, in its last fifth. */
const CA_NOTICE_MS = 30 * DAY_MS
const LAST_PART = 0.2
/** A subject is a peer's own text. */
const SUBJECT_MAX = 128

/** One certificate that calls between clusters rest on. */
export interface WatchedCertificate {
  readonly cluster: string
  readonly role: 'leaf' | 'intermediate' | 'root'
  /** As OpenSSL writes it, in printable ASCII; of a leaf its SPIFFE id. */
  readonly subject: string
  /** Hexadecimal. */
  readonly serial: string
  readonly notBeforeMs: number
  readonly notAfterMs: number
  /** It is in the chain of the leaf that the cluster's discovery server shows; the others of its bundle may be on their way out. */
  readonly inUse: boolean
}

export interface ClusterTrust {
  readonly cluster: string
  readonly bundle: TrustBundle
  /** DER of the leaf that the cluster's discovery server has shown last; undefined: none yet. */
  readonly leaf: Uint8Array | undefined
}

/** The leaf of a cluster, its chain up to the root, and what else is in its bundle. */
export function watchedCertificates(
  { cluster, bundle, leaf }: ClusterTrust,
  nowMs: number,
): WatchedCertificate[] {
  const certificate = leaf === undefined ? undefined : parseCertificate(leaf)
  const x509 = leaf === undefined ? undefined : openX509(leaf)
  let chain: readonly CaCertificate[] = []
  const found: WatchedCertificate[] = []
  if (certificate?.ok === true && x509 !== undefined) {
    // By the time that it was good at: what has expired since is still what the cluster rests on.
    const atMs = Math.min(nowMs, certificate.value.notAfterMs)
    const anchor = bundle.anchor(certificate.value, x509, 'server', atMs)
    if (anchor.ok) chain = bundle.chainOf(anchor.value.issuer)
    const { serial, notBeforeMs, notAfterMs, extensions } = certificate.value
    const uri = extensions.alternativeNames.find(({ kind }) => kind === 'uri')?.value ?? x509.subject
    found.push({ cluster, role: 'leaf', subject: plain(uri), serial, notBeforeMs, notAfterMs, inUse: true })
  }
  const used = new Set(chain.map(({ fingerprint }) => fingerprint))
  for (const ca of bundle.certificates) {
    const { serial, notBeforeMs, notAfterMs } = ca.certificate
    found.push({
      cluster,
      role: ca.root ? 'root' : 'intermediate',
      subject: plain(ca.x509.subject),
      serial,
      notBeforeMs,
      notAfterMs,
      inUse: used.has(ca.fingerprint),
    })
  }
  return found
}

/** From when on somebody should have replaced it, milliseconds since the epoch. */
function noticeMs({ role, notBeforeMs, notAfterMs }: WatchedCertificate): number {
  const last = LAST_PART * (notAfterMs - notBeforeMs)
  return notAfterMs - (role === 'leaf' ? last : Math.min(last, CA_NOTICE_MS))
}

/** Condition `CertificatesLast` of a Cluster object. The message names dates and not what is left, so that it stays the same. */
export function certificateCondition(
  object: string,
  watched: readonly WatchedCertificate[],
  nowMs: number,
): ModelCondition {
  const common = { object, type: 'CertificatesLast' as const }
  const due = dueOf(watched, nowMs)
  const [first] = due
  if (first === undefined) {
    const ends = watched.filter(({ inUse }) => inUse).map(({ notAfterMs }) => notAfterMs)
    const message = ends.length === 0 ? 'none is in use yet' : 'each certificate in use lasts long enough'
    return { ...common, status: true, reason: 'Last', message }
  }
  const expired = due.some(({ notAfterMs }) => notAfterMs <= nowMs)
  const named = due.slice(0, 3).map(({ role, subject, notAfterMs }) => {
    const verb = notAfterMs <= nowMs ? 'ended' : 'ends'
    return `${role} ${subject} ${verb} at ${new Date(notAfterMs).toISOString()}`
  })
  const more = due.length > 3 ? `; and ${due.length - 3} more` : ''
  return {
    ...common,
    status: false,
    reason: expired ? 'Expired' : 'ExpireSoon',
    message: `${named.join('; ')}${more}`,
  }
}

/** Those in use that are due; where nothing is seen in use yet, the roots, if every one of them is. */
function dueOf(watched: readonly WatchedCertificate[], nowMs: number): readonly WatchedCertificate[] {
  const due = (one: WatchedCertificate): boolean => noticeMs(one) <= nowMs
  const used = watched.filter(({ inUse }) => inUse)
  const roots = watched.filter(({ role }) => role === 'root')
  const counted = used.length > 0 ? used.filter(due) : roots.every(due) ? roots : []
  return [...counted].sort((a, b) => a.notAfterMs - b.notAfterMs)
}

/** When a verdict on any of them changes next; undefined: never again. */
export function nextVerdictMs(watched: readonly WatchedCertificate[], nowMs: number): number | undefined {
  const times = watched.flatMap((one) => [noticeMs(one), one.notAfterMs]).filter((ms) => ms > nowMs)
  return times.length === 0 ? undefined : Math.min(...times)
}

function plain(text: string): string {
  return text
    .replaceAll('\n', ', ')
    .replace(/[^\x20-\x7e]/g, '?')
    .slice(0, SUBJECT_MAX)
}
