// The network's part of an explanation: a real TCP connection and a real handshake, as a sidecar would make them.
import { X509Certificate } from 'node:crypto'
import { connect as connectTcp, type Socket } from 'node:net'
import { connect as connectTls, type TLSSocket } from 'node:tls'
import type { Credential } from '../identity/credential.ts'
import { clientTlsOptions } from '../identity/tls.ts'
import type { TrustBundles } from '../identity/trust-bundle.ts'
import { verifySvid } from '../identity/verify-svid.ts'
import type { Hop } from '../model/explain.ts'

const CONNECT_TIMEOUT_MS = 3_000
const HANDSHAKE_TIMEOUT_MS = 5_000
/**
 * In TLS 1.3 the client is done before the server has seen its certificate, and a gateway that refuses the caller or has no
 * backend ends the connection just after. A gateway that keeps it this long has accepted.
 */
const SETTLE_MS = 400

export interface ProbeTarget {
  readonly address: string
  readonly port: number
  readonly sni: string
  /** The gateway's SPIFFE ids. */
  readonly expectedIds: readonly string[]
}

export interface ProbeResult {
  readonly hops: readonly Hop[]
  /** The gateway ended the connection just after an accepted handshake, without an alert. */
  readonly closedAfterHandshake: boolean
}

/** Tries one address of a gateway: hop `tcp`, then `tls`. Leaves nothing open. */
export async function probeGateway(
  target: ProbeTarget,
  credential: Credential,
  bundles: TrustBundles,
): Promise<ProbeResult> {
  const where = `${target.address} port ${target.port}`
  const socket = await openTcp(target.address, target.port)
  if (!('write' in socket)) {
    const fix = `a firewall or route between here and ${where}, or the gateway's Service and pods`
    const hop: Hop = {
      hop: 'tcp',
      ok: false,
      code: 'ConnectFailed',
      detail: `${where}: ${socket.message}`,
      fix,
    }
    return { hops: [hop], closedAfterHandshake: false }
  }
  const tcp: Hop = { hop: 'tcp', ok: true, detail: `connected to ${where}`, fix: '' }
  try {
    const { hop, closed } = await handshake(socket, target, credential, bundles)
    const own = hop.ok && !closed ? undefined : ownFault(credential, bundles)
    if (own !== undefined) return { hops: [tcp, own], closedAfterHandshake: false }
    return { hops: [tcp, hop], closedAfterHandshake: closed }
  } finally {
    socket.destroy()
  }
}

function openTcp(host: string, port: number): Promise<Socket | Error> {
  return new Promise((resolve) => {
    const socket = connectTcp({ host, port, timeout: CONNECT_TIMEOUT_MS })
    const ended = (outcome: Socket | Error) => {
      socket.removeAllListeners()
      socket.setTimeout(0)
      if (outcome instanceof Error) socket.destroy()
      resolve(outcome)
    }
    socket.once('connect', () => ended(socket))
    socket.once('error', (error) => ended(error))
    socket.once('timeout', () => ended(new Error(`no answer within ${CONNECT_TIMEOUT_MS / 1000} s`)))
  })
}

function handshake(
  raw: Socket,
  target: ProbeTarget,
  credential: Credential,
  bundles: TrustBundles,
): Promise<{ hop: Hop; closed: boolean }> {
  const { sni, expectedIds } = target
  return new Promise((resolve) => {
    const socket = connectTls({
      ...clientTlsOptions(credential, bundles, { expectedIds }),
      socket: raw,
      servername: sni,
      // As a sidecar offers it; without it nothing is passed through to a workload.
      ALPNProtocols: ['istio'],
    })
    let timer = setTimeout(
      () => socket.destroy(new Error(`no handshake within ${HANDSHAKE_TIMEOUT_MS / 1000} s`)),
      HANDSHAKE_TIMEOUT_MS,
    )
    const done = (hop: Hop, closed = false) => {
      clearTimeout(timer)
      resolve({ hop, closed })
      socket.destroy()
    }
    let hop: Hop | undefined
    socket.once('secureConnect', () => {
      const shown = presented(socket, expectedIds)
      const detail = `${socket.getProtocol() ?? 'TLS'}, server name ${sni}, ${shown}`
      const accepted: Hop = { hop: 'tls', ok: true, detail, fix: '' }
      hop = accepted
      clearTimeout(timer)
      timer = setTimeout(() => done(accepted), SETTLE_MS)
      // A server that speaks first is a server that took the call.
      socket.once('data', () => done(accepted))
    })
    // A reset is a close in a hurry; only an alert says that the handshake itself was not taken.
    socket.on('error', (error) => {
      const code = (error as NodeJS.ErrnoException).code ?? ''
      if (hop !== undefined && !code.startsWith('ERR_SSL')) done(hop, true)
      else done(refusedHop(error, target, credential))
    })
    raw.on('error', () => undefined)
    socket.once('close', () => {
      if (hop !== undefined) done(hop, true)
      else
        done(
          refusedHop(new Error('the gateway ended the connection during the handshake'), target, credential),
        )
    })
    socket.once('end', () => socket.destroy())
  })
}

/** Who the other end showed itself to be, and for how long yet. Node tells it once: the second time there is no certificate. */
function presented(socket: TLSSocket, expectedIds: readonly string[]): string {
  const leaf = socket.getPeerX509Certificate()
  if (leaf === undefined) return `it is ${expectedIds.join(' or ')}`
  const ids = [...(leaf.subjectAltName ?? '').matchAll(/URI:([^,"]+)/g)].map(([, id]) => id)
  const days = (leaf.validToDate.getTime() - Date.now()) / 86_400_000
  return `it is ${ids.join(' and ')}, ${days.toFixed(1)} days left`
}

/** What an error of the handshake means, by the alert (RFC 8446 section 6.2) or by our own check of the gateway's certificate. */
function refusedHop(error: Error, { sni, expectedIds }: ProbeTarget, credential: Credential): Hop {
  const code = (error as NodeJS.ErrnoException).code ?? ''
  const broken = (detail: string, fix: string): Hop => ({
    hop: 'tls',
    ok: false,
    code: code || 'HandshakeFailed',
    detail,
    fix,
  })
  if (/UNRECOGNIZED_NAME/i.test(code)) {
    return broken(
      `the gateway does not serve the server name ${sni} (alert unrecognized_name)`,
      "the gateway's own configuration: isthmus status shows whether it is connected to its discovery server",
    )
  }
  if (/_ALERT_/.test(code)) {
    return broken(
      `the gateway refuses ${credential.id.uri} (${code})`,
      "the caller's certificate, or data.bundle of the peer Secret in the serving cluster",
    )
  }
  if (/the server/.test(error.message)) {
    return broken(error.message, `the gateway's certificate; expected ${expectedIds.join(' or ')}`)
  }
  return broken(
    `${error.message}${code === '' || error.message.includes(code) ? '' : ` (${code})`}`,
    "the gateway's certificate and the caller's trust bundle",
  )
}

/**
 * What is wrong with the caller's own certificate, where the gateway did not take the call: a server that ends the
 * connection after the handshake without an alert (Node's does) leaves the caller to find out.
 */
function ownFault(credential: Credential, bundles: TrustBundles): Hop | undefined {
  const verdict = verifySvid(
    new X509Certificate(credential.certificatePem).raw,
    bundles,
    Date.now(),
    'client',
  )
  if (verdict.ok || verdict.error.code === 'unknown_trust_domain') return undefined
  const detail = `the gateway refuses ${credential.id.uri}: ${verdict.error.message}`
  return {
    hop: 'tls',
    ok: false,
    code: verdict.error.code,
    detail,
    fix: "the caller's certificate (tls.crt), or the bundle of its trust domain",
  }
}
