// What the differential test serves, to every data plane alike: listeners that differ in one setting each, and services that behave
// in one way each.
import { once } from 'node:events'
import { createServer } from 'node:net'
import type { ConnectionOptions } from 'node:tls'
import { type Ca, createCa } from '../../src/identity/ca.ts'
import type { XdsResource } from '../../src/xds/types.ts'
import { type CertificatePool, TRUST_DOMAIN } from '../attacks/certificates.ts'
import { type Minted, mintCrl, mintLeaf } from '../identity/mint.ts'
import {
  allow,
  credentialSecret,
  type EndpointSpec,
  endpoints,
  trustSecret,
  type UpstreamOptions,
  upstream,
  uriPrincipal,
} from '../proxy/support.ts'
import { Blackhole } from '../targets/blackhole.ts'
import { Recorder, TlsRecorder } from '../targets/recorder.ts'
import { type ChainSpec, edge } from '../targets/resources.ts'
import type { Resources } from '../targets/target.ts'

export type Service =
  | 'echo'
  | 'script'
  | 'banner'
  | 'secure'
  | 'empty'
  | 'unhealthy'
  | 'refused'
  | 'blackhole'
  | 'failover'
  | 'failover-blackhole'
  | 'priorities'
  | 'priorities-refused'
  | 'slams'
  | 'closes'
  | 'mesh'
  | 'narrow'

export const nameOf = (service: Service | string): string =>
  `outbound_.9080_._.${service}.bookinfo.svc.cluster.local`

export const BANNER = 'banner\n'

export interface World {
  readonly pool: CertificatePool
  readonly resources: Resources
  /** Echoes. */
  readonly echo: Recorder
  /** Does what a case makes it do. */
  readonly script: Recorder
  /** Speaks first, then echoes. */
  readonly banner: Recorder
  /** As `script`, over mutual TLS. */
  readonly secure: TlsRecorder
  /** A mesh workload that takes our clients' own certificates. */
  readonly mesh: TlsRecorder
  /** Resets at the first byte; accepts and ends. */
  readonly slams: Recorder
  readonly closes: Recorder
  /** With another policy on listener `edge`: nobody may call. */
  readonly denied: Resources
  /** Without service `echo`; with no endpoint of it. */
  readonly removed: Resources
  readonly emptied: Resources
  /** With another `ROOTCA`: nobody is known. */
  readonly distrusted: Resources
  /** A caller that the CRL of listener `revoking` lists. */
  readonly revoked: Minted
  stop(): Promise<void>
}

const may = (trustDomain: string) => [
  allow({ [`${trustDomain} may`]: [uriPrincipal('prefix', `spiffe://${trustDomain}/`)] }),
]
const rbac = may(TRUST_DOMAIN)

const CHAINS: Readonly<Record<string, readonly ChainSpec[]>> = {
  edge: [{ rbac }],
  'first-byte': [{ rbac, connectMode: 'data' }],
  denying: [{ rbac: may('cluster-1.example') }],
  'denying-first-byte': [{ rbac: may('cluster-1.example'), connectMode: 'data' }],
  idle: [{ rbac, idleTimeoutS: 0.4 }],
  'idle-second': [{ rbac, idleTimeoutS: 1.2 }],
  short: [{ rbac, maxDurationS: 0.4 }],
  impatient: [{ rbac, handshakeTimeoutS: 0.4 }],
  once: [{ rbac, maxConnectAttempts: 1 }],
  chains: [
    {
      name: 'echo-from-cluster-9',
      serverNames: [nameOf('echo')],
      trust: 'ROOTCA-9',
      rbac: may('cluster-9.example'),
    },
    { name: 'default', rbac },
  ],
  revoking: [{ rbac, trust: 'ROOTCA-revoking' }],
  mixed: [
    { name: 'default', rbac },
    { passthrough: true, serverNames: [nameOf('mesh')] },
  ],
  pinned: [{ rbac, peerPrefixes: [`spiffe://${TRUST_DOMAIN}/ns/bookinfo/`] }],
  'pinned-elsewhere': [{ rbac, peerPrefixes: [`spiffe://${TRUST_DOMAIN}/ns/other/`] }],
}

/** A port that nobody listens on. */
async function closedPort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  server.close()
  await once(server, 'close')
  return typeof address === 'object' && address !== null ? address.port : 0
}

/** One for each data plane, so that they can be asked side by side. */
export async function createWorld(pool: CertificatePool): Promise<World> {
  const home = await createCa({ trustDomain: 'cluster-2.example' })
  const [echo, script, banner, slams, closes, blackhole, refused, secure, mesh] = await Promise.all([
    Recorder.listen(),
    Recorder.listen(() => {}),
    Recorder.listen((socket) => {
      socket.write(BANNER)
      socket.pipe(socket)
    }),
    Recorder.listen((socket) => socket.once('data', () => socket.resetAndDestroy())),
    Recorder.listen((socket) => socket.end()),
    Blackhole.open(),
    closedPort(),
    workload(home, home.bundlePem),
    workload(home, pool.root.pem),
  ])
  const at = (port: number, more: Partial<EndpointSpec> = {}): EndpointSpec => ({ port, ...more })
  const pin = `spiffe://${home.trustDomain}/ns/bookinfo/sa/secure`
  const services: Record<Service, readonly [readonly EndpointSpec[], UpstreamOptions?]> = {
    echo: [[at(echo.port)]],
    script: [[at(script.port)]],
    banner: [[at(banner.port)]],
    secure: [[at(secure.port, { tls: true })], { pins: [pin], sni: nameOf('secure') }],
    empty: [[]],
    unhealthy: [[at(echo.port, { unhealthy: true })]],
    refused: [[at(refused)]],
    blackhole: [[at(blackhole.port)], { connectTimeoutS: 0.3 }],
    failover: [[at(refused), at(echo.port)]],
    'failover-blackhole': [[at(blackhole.port), at(echo.port)], { connectTimeoutS: 0.3 }],
    priorities: [[at(script.port, { unhealthy: true }), at(echo.port, { priority: 1 })]],
    'priorities-refused': [[at(refused), at(echo.port, { priority: 1 })]],
    slams: [[at(slams.port)]],
    closes: [[at(closes.port)]],
    mesh: [[at(mesh.port, { tls: true })]],
    narrow: [[at(script.port)], { maxConnections: 1 }],
  }
  const entries = Object.entries(services)
  const identity = await home.issue({ namespace: 'eastwest', serviceAccount: 'gateway' })
  const trust = [home, ...pool.roots]
  const listeners = (chains: typeof CHAINS): XdsResource[] =>
    Object.entries(chains).map(([name, specs]) => edge(name, specs))
  const revoked = mintLeaf(pool.root, `spiffe://${TRUST_DOMAIN}/ns/bookinfo/sa/revoked`)
  const crl = mintCrl({ issuer: pool.root, revoked: [revoked] }).pem
  const secrets = [
    credentialSecret(identity),
    trustSecret(trust.slice(-1), 'ROOTCA-9'),
    trustSecret(trust, 'ROOTCA-revoking', crl),
  ]
  const resources: Resources = {
    listeners: listeners(CHAINS),
    clusters: entries.map(([name, [, options]]) => upstream(nameOf(name), options)),
    endpoints: entries.map(([name, [specs]]) => endpoints(nameOf(name), specs)),
    secrets: [...secrets, trustSecret(trust)],
  }
  return {
    pool,
    resources,
    denied: { ...resources, listeners: listeners({ ...CHAINS, edge: [{ rbac: may('cluster-1.example') }] }) },
    removed: {
      ...resources,
      clusters: resources.clusters.filter(({ name }) => name !== nameOf('echo')),
      endpoints: resources.endpoints.filter(({ name }) => name !== nameOf('echo')),
    },
    emptied: {
      ...resources,
      endpoints: resources.endpoints.map((each) =>
        each.name === nameOf('echo') ? endpoints(each.name, []) : each,
      ),
    },
    distrusted: { ...resources, secrets: [...secrets, trustSecret([home])] },
    revoked,
    ...{ echo, script, banner, secure, mesh, slams, closes },
    async stop() {
      await Promise.all(
        [echo, script, banner, secure, mesh, slams, closes, blackhole].map((each) => each.close()),
      )
    },
  }
}

/** A workload of the serving cluster behind its sidecar: mutual TLS with its own SPIFFE id, for callers of `ca`. */
async function workload(home: Ca, ca: string): Promise<TlsRecorder> {
  const own = await home.issue({ namespace: 'bookinfo', serviceAccount: 'secure' })
  return TlsRecorder.listenTls({
    cert: own.certificatePem,
    key: own.privateKeyPem,
    ca,
    requestCert: true,
    rejectUnauthorized: true,
    ALPNProtocols: ['istio'],
  })
}

/** A good client of TLS 1.3; `options` change it. */
export function clientOptions(
  pool: CertificatePool,
  service: string,
  options: ConnectionOptions,
): ConnectionOptions {
  return {
    servername: nameOf(service),
    cert: pool.good.pem,
    key: pool.good.keyPem,
    minVersion: 'TLSv1.3',
    ...options,
  }
}
