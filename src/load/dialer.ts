import { connect as connectTcp, isIP, type Socket } from 'node:net'
import {
  type ConnectionOptions,
  connect as connectTls,
  createSecureContext,
  type SecureContext,
  type TLSSocket,
} from 'node:tls'
import { parseCredential } from '../identity/credential.ts'
import { peerLeaf } from '../identity/peer-leaf.ts'
import { parseCertificatesPem } from '../identity/pem.ts'
import { parseSpiffeId } from '../identity/spiffe-id.ts'
import { clientTlsOptions } from '../identity/tls.ts'
import { TrustBundle, TrustBundles } from '../identity/trust-bundle.ts'
import { SvidVerifier } from '../identity/verify-svid.ts'
import { fail, formatProblem, ok, type Result } from '../lib/result.ts'
import type { LoadTarget, LoadTls } from './plan.ts'

const IN_BUN = 'bun' in process.versions

/** What all connections of a process receive into, one after the other: whoever reads takes what it needs at once. */
const RECEIVED = Buffer.allocUnsafe(65_536)

/** Takes what a connection received; the bytes are good until it returns. */
export type Receiver = (bytes: Buffer) => void

interface Verification {
  readonly bundles: TrustBundles
  readonly expected: ReadonlySet<string>
}

/** Opens the connections of a load: mutual TLS with one context for all, or TCP alone. */
export class Dialer {
  readonly #target: LoadTarget
  readonly #context: SecureContext | undefined
  readonly #verification: Verification | undefined
  readonly #verifier = new SvidVerifier()
  #next = 0

  private constructor(target: LoadTarget, context?: SecureContext, verification?: Verification) {
    this.#target = target
    this.#context = context
    this.#verification = verification
  }

  /** The error is one sentence: what is wrong with which of the files. */
  static create(target: LoadTarget): Result<Dialer, string> {
    if (target.tls === undefined) return ok(new Dialer(target))
    const { certificatePem, privateKeyPem, caPem, expectedIds } = target.tls
    const fields = { certificate: 'certificate', privateKey: 'key' }
    const credential = parseCredential(certificatePem, privateKeyPem, '', fields)
    if (!credential.ok) return fail(formatProblem(credential.error))
    const trust = parseCertificatesPem(caPem)
    if (!trust.ok) return fail(`ca: ${trust.error}`)
    const verification = verificationOf(caPem, expectedIds)
    if (!verification.ok) return verification
    try {
      const options = clientTlsOptions(credential.value, new TrustBundles())
      return ok(new Dialer(target, createSecureContext({ ...options, ca: caPem }), verification.value))
    } catch (error) {
      return fail(`ca: ${(error as Error).message}`)
    }
  }

  /** A connection that is under way; `secure` tells which of its events says that it is there. */
  dial(receive: Receiver): { readonly socket: Socket; readonly established: 'secureConnect' | 'connect' } {
    const { address: host, port, tls } = this.#target
    // With a buffer of ours nothing is allocated for a read. Bun is faster without.
    const onread = {
      buffer: RECEIVED,
      callback: (length: number, bytes: Uint8Array) => {
        receive((bytes as Buffer).subarray(0, length))
        return true
      },
    }
    const options = IN_BUN ? { host, port } : { host, port, onread }
    const socket = tls === undefined ? connectTcp(options) : this.#secure(options, tls)
    if (IN_BUN) socket.on('data', receive)
    socket.setNoDelay(true)
    return { socket, established: tls === undefined ? 'connect' : 'secureConnect' }
  }

  /** Why a server that shows its certificate is not the one that was expected; empty where it is, or nobody asked. */
  refusal(socket: Socket): string {
    if (this.#verification === undefined) return ''
    const { bundles, expected } = this.#verification
    const leaf = peerLeaf(socket as TLSSocket)
    if (leaf === undefined) return 'the server showed no certificate'
    const verdict = this.#verifier.verify(leaf, bundles, Date.now(), 'server')
    if (!verdict.ok)
      return `the server's certificate is refused (${verdict.error.code}): ${verdict.error.message}`
    const { uri } = verdict.value.id
    return expected.has(uri) ? '' : `the server is ${uri}; expected ${[...expected].join(' or ')}`
  }

  #secure(options: ConnectionOptions, { serverNames, alpn = [] }: LoadTls): TLSSocket {
    const name = serverNames[this.#next++ % serverNames.length] ?? ''
    const socket = connectTls({
      ...options,
      ...(this.#context && { secureContext: this.#context }),
      // An IP address is no server name (RFC 6066), and throws on Bun.
      ...(name === '' || isIP(name) !== 0 ? {} : { servername: name }),
      ...(alpn.length === 0 ? {} : { ALPNProtocols: [...alpn] }),
      rejectUnauthorized: true,
      checkServerIdentity: () => undefined,
    })
    // The chain was verified before this is called, for a check by host name that does not apply. To make the object that it wants
    // costs a quarter of the handshake.
    if (!IN_BUN) socket.getPeerCertificate = () => ({}) as never
    return socket
  }
}

function verificationOf(
  caPem: string,
  expectedIds: readonly string[] | undefined,
): Result<Verification | undefined, string> {
  if (expectedIds === undefined) return ok(undefined)
  const bundles: TrustBundle[] = []
  for (const uri of expectedIds) {
    const id = parseSpiffeId(uri)
    if (!id.ok) return fail(`expected SAN: "${uri}" is no SPIFFE id: ${id.error}`)
    if (bundles.some(({ trustDomain }) => trustDomain === id.value.trustDomain)) continue
    const bundle = TrustBundle.parse(id.value.trustDomain, caPem, 'ca')
    if (!bundle.ok) return fail(formatProblem(bundle.error))
    bundles.push(bundle.value)
  }
  return ok({ bundles: new TrustBundles(bundles), expected: new Set(expectedIds) })
}
