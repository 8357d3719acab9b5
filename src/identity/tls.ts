import { constants } from 'node:crypto'
import {
  type ConnectionOptions,
  createSecureContext,
  createServer,
  type PeerCertificate,
  type SecureContext,
  type SecureContextOptions,
  type Server,
  type TlsOptions,
} from 'node:tls'
import { type Clock, systemClock } from '../lib/clock.ts'
import type { Credential } from './credential.ts'
import type { TrustBundles } from './trust-bundle.ts'
import { verifySvid } from './verify-svid.ts'

const IN_BUN = 'bun' in process.versions

/**
 * No session is ever resumed: with resumption a peer is not verified again, so a CA that was removed, a policy that was
 * changed or another server name would not be noticed (CVE-2025-23419, CVE-2025-68121, CVE-2022-21654). Without tickets
 * and without a session store there is nothing to resume; neither may be added: no `ticketKeys`, and no listener to
 * `newSession` or `resumeSession` (in TLS 1.3 OpenSSL still sends a ticket, but it only names a session that nobody kept).
 */
const NO_RESUMPTION = constants.SSL_OP_NO_TICKET
/** TLS 1.2 only; RFC 9325 section 3.5. */
const NO_RENEGOTIATION = constants.SSL_OP_NO_RENEGOTIATION

/** RFC 9325 section 4.2: forward secrecy and AEAD only. */
const CIPHERS = [
  'TLS_AES_128_GCM_SHA256',
  'TLS_AES_256_GCM_SHA384',
  'TLS_CHACHA20_POLY1305_SHA256',
  'ECDHE-ECDSA-AES128-GCM-SHA256',
  'ECDHE-RSA-AES128-GCM-SHA256',
  'ECDHE-ECDSA-AES256-GCM-SHA384',
  'ECDHE-RSA-AES256-GCM-SHA384',
  'ECDHE-ECDSA-CHACHA20-POLY1305',
  'ECDHE-RSA-CHACHA20-POLY1305',
].join(':')

const SIGNATURE_ALGORITHMS = [
  'ecdsa_secp256r1_sha256',
  'ecdsa_secp384r1_sha384',
  'ecdsa_secp521r1_sha512',
  'ed25519',
  'rsa_pss_rsae_sha256',
  'rsa_pss_rsae_sha384',
  'rsa_pss_rsae_sha512',
  // BoringSSL (Bun) has no keys that are for PSS alone, and refuses the whole list for their names.
  ...(IN_BUN ? [] : ['rsa_pss_pss_sha256', 'rsa_pss_pss_sha384', 'rsa_pss_pss_sha512']),
  'rsa_pkcs1_sha256',
  'rsa_pkcs1_sha384',
  'rsa_pkcs1_sha512',
].join(':')

function common(credential: Credential, bundles: TrustBundles): SecureContextOptions {
  return {
    cert: credential.certificatePem,
    key: credential.privateKeyPem,
    ca: bundles.pooledPem(),
    // That a CA leads to a root was found out when its bundle was read: to look again at each handshake is one signature more.
    allowPartialTrustChain: true,
    minVersion: 'TLSv1.2',
    maxVersion: 'TLSv1.3',
    ciphers: CIPHERS,
    honorCipherOrder: true,
    // The first two are what anybody uses; in TLS 1.2 the list also says which curves a certificate may have.
    ecdhCurve: 'X25519:P-256:P-384:P-521',
    sigalgs: SIGNATURE_ALGORITHMS,
    secureOptions: NO_RESUMPTION | NO_RENEGOTIATION,
  }
}

/**
 * Options for `tls.createServer`, `http2.createSecureServer` and, all of them again, `setSecureContext`: mutual TLS 1.2
 * and 1.3 against the pooled bundles. The pool is a first sieve: whoever accepts the connection must still ask
 * `verifySvid` with the client's leaf before it trusts a word. Where the pool is ambiguous there is no sieve, and a client
 * without a certificate comes through as well.
 */
export function serverTlsOptions(
  credential: Credential,
  bundles: TrustBundles,
): SecureContextOptions & TlsOptions {
  const tls = { ...common(credential, bundles), requestCert: true }
  // A verdict that is not used must not be made either: what OpenSSL's check leaves in its queue of errors breaks the connection
  // at the first byte that is read.
  return bundles.ambiguous
    ? { ...tls, ca: [], rejectUnauthorized: false }
    : { ...tls, rejectUnauthorized: true }
}

/** What `serverTlsOptions` are made for, with all of them in force. */
export function createTlsServer(options: SecureContextOptions & TlsOptions): Server {
  const server = createServer(options)
  // Node's server makes its context of a list of options that lacks `allowPartialTrustChain`, and takes no context from outside.
  if (!IN_BUN) {
    const internals = server as { sessionIdContext?: string; _sharedCreds?: SecureContext }
    const { sessionIdContext } = internals
    internals._sharedCreds = createSecureContext({
      ...options,
      ...(sessionIdContext === undefined ? {} : { sessionIdContext }),
    })
  }
  return server
}

export interface ClientTlsSettings {
  /** SPIFFE ids that may answer; undefined: anybody whose SVID verifies. */
  readonly expectedIds?: readonly string[]
  /** Default: the system's. */
  readonly clock?: Clock
}

/**
 * Options for `tls.connect`. The name asked for by SNI is no identity here; instead of the host name the server's SVID
 * is verified against its own trust domain's bundle and, where ids are given, pinned.
 */
export function clientTlsOptions(
  credential: Credential,
  bundles: TrustBundles,
  settings: ClientTlsSettings = {},
): SecureContextOptions & ConnectionOptions {
  const { expectedIds, clock = systemClock } = settings
  return {
    ...common(credential, bundles),
    rejectUnauthorized: true,
    // Must return its error: one that is thrown here is uncaught.
    checkServerIdentity: (_host: string, peer: PeerCertificate) =>
      serverIdentityError(peer.raw, bundles, clock.now(), expectedIds),
  }
}

/**
 * Mutual TLS to a discovery server, in the form that an xDS client takes: PEM, and `verifyPeer`, which judges the server's leaf as it is
 * shown. `issuers` as in `serverIdentityError`, asked for at each handshake.
 */
export function discoveryTls(
  { certificatePem, privateKeyPem }: Credential,
  bundles: TrustBundles,
  clock: Clock,
  expectedIds: readonly string[],
  issuers?: () => readonly string[] | undefined,
) {
  return {
    certificatePem,
    privateKeyPem,
    caPem: bundles.pooledPem(),
    verifyPeer: (der: Uint8Array) => serverIdentityError(der, bundles, clock.now(), expectedIds, issuers?.()),
  }
}

/**
 * Why a server's leaf is not one we want to talk to; undefined when it is. `issuers`, where given, are the only CAs that speak for
 * its cluster, as in `VerifiedSvid.issuer`.
 */
export function serverIdentityError(
  leafDer: Uint8Array | undefined,
  bundles: TrustBundles,
  nowMs: number,
  expectedIds?: readonly string[],
  issuers?: readonly string[],
): Error | undefined {
  const verdict = verifySvid(leafDer ?? new Uint8Array(), bundles, nowMs, 'server')
  if (!verdict.ok)
    return new Error(`the server's certificate is refused (${verdict.error.code}): ${verdict.error.message}`)
  const { uri } = verdict.value.id
  if (issuers !== undefined && !issuers.includes(verdict.value.issuer))
    return new Error(
      `the server is ${uri}, but the CA that signed its certificate is not its cluster's alone`,
    )
  if (expectedIds === undefined || expectedIds.includes(uri)) return undefined
  return new Error(`the server is ${uri}; expected ${expectedIds.join(' or ') || 'nobody'}`)
}
