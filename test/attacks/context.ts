// What an attack has to work with: a target that serves one name, a canary behind it, and ways of connecting.
import type { ConnectionOptions } from 'node:tls'
import { createCa } from '../../src/identity/ca.ts'
import {
  allow,
  credentialSecret,
  endpoints,
  SNI,
  trustSecret,
  upstream,
  uriPrincipal,
} from '../proxy/support.ts'
import { Recorder } from '../targets/recorder.ts'
import { edge } from '../targets/resources.ts'
import type { Resources, Target } from '../targets/target.ts'
import { type Seen, seenRaw, Wire, type WireOptions, WireTls } from '../targets/wire.ts'
import { type CertificatePool, mintPool, TRUST_DOMAIN } from './certificates.ts'

export const NAME = SNI
/** A second name that is served, for sessions that are carried from one to the other. */
export const SECOND = SNI.replace('9080', '9081')
export const BANNER = 'banner\n'

/** Everything that the targets of one run share. */
export interface Scene {
  readonly canary: Recorder
  readonly pool: CertificatePool
  readonly resources: Resources
}

export async function setScene(): Promise<Scene> {
  // Speaks first: whoever gets as far as a connect gets a byte as well.
  const canary = await Recorder.listen((socket) => {
    socket.write(BANNER)
    socket.pipe(socket)
  })
  const home = await createCa({ trustDomain: 'cluster-2.example' })
  const identity = await home.issue({ namespace: 'eastwest', serviceAccount: 'gateway' })
  const pool = mintPool()
  const rbac = [allow({ 'cluster-8 may': [uriPrincipal('prefix', `spiffe://${TRUST_DOMAIN}/`)] })]
  return {
    canary,
    pool,
    resources: {
      listeners: [edge('edge', [{ rbac }]), edge('impatient', [{ rbac, handshakeTimeoutS: 0.5 }])],
      clusters: [NAME, SECOND].map((name) => upstream(name)),
      endpoints: [NAME, SECOND].map((name) => endpoints(name, [{ port: canary.port }])),
      secrets: [credentialSecret(identity), trustSecret([home, ...pool.roots], 'ROOTCA', pool.crl)],
    },
  }
}

export class AttackContext {
  readonly pool: CertificatePool
  readonly canary: Recorder
  readonly target: Target
  readonly #open = new Set<{ destroy(): void }>()

  constructor(target: Target, scene: Scene) {
    this.target = target
    this.canary = scene.canary
    this.pool = scene.pool
  }

  /** A TCP connection to a listener. */
  wire(listener = 'edge'): Wire {
    const wire = new Wire(this.target.port(listener))
    this.#open.add(wire.socket)
    return wire
  }

  /** A TLS client; without more options a good one that asks for the name that is served. */
  tls(options: ConnectionOptions = {}, wire: WireOptions = {}, listener = 'edge'): WireTls {
    const { good } = this.pool
    const client = new WireTls(
      this.target.port(listener),
      { servername: NAME, cert: good.pem, key: good.keyPem, ...options },
      wire,
    )
    this.#open.add(client)
    return client
  }

  /**
   * Sends bytes (an array: in segments of their own) and waits for an answer: a ServerHello or the end. `fin`: nothing more comes
   * from this client.
   */
  async send(bytes: Buffer | string | readonly Buffer[], listener?: string, fin = false): Promise<Seen> {
    const wire = this.wire(listener)
    for (const segment of Array.isArray(bytes) ? bytes : [bytes]) {
      if (!wire.socket.writable) break
      await new Promise<void>((resolve) => wire.socket.write(segment as Buffer, () => resolve()))
    }
    if (fin) wire.socket.end()
    await wire.until(() => wire.tcpEnd !== 'open' || seenRaw(wire).serverHello)
    return seenRaw(wire)
  }

  /** A TLS client that says something and waits for the answer or the end. */
  async call(options: ConnectionOptions = {}, wire: WireOptions = {}, listener?: string): Promise<Seen> {
    const client = this.tls(options, wire, listener)
    client.tls.write('ping')
    await client.wire.until(() => client.received > BANNER.length || client.wire.tcpEnd !== 'open')
    if (client.wire.tcpEnd !== 'open') await client.ended()
    return client.seen()
  }

  /** Closes what the attack has left open. */
  end(): void {
    for (const each of this.#open) each.destroy()
    this.#open.clear()
  }
}

/** What a client saw, in a word or two: the outcome that is compared. */
export function outcomeOf({ data, alerts, serverHello, end }: Seen): string {
  if (data.length > 0) return 'routed'
  const fatal = alerts.filter((alert) => alert !== 'close_notify')
  if (fatal.length > 0) return `alert ${fatal[0]}`
  if (end === 'rst') return 'reset'
  if (end === 'fin') return 'closed'
  return serverHello ? 'answered' : 'open'
}
