// The story's cluster-1 behind an Envoy as its gateway: objects → model → resources → a real process, with services that count who comes.
import { connect, type TLSSocket } from 'node:tls'
import { computeModel } from '../../src/model/compute.ts'
import { gatewayResources } from '../../src/resources/gateway-resources.ts'
import { TYPE, type XdsResource } from '../../src/xds/types.ts'
import { type Minted, mintLeaf, mintRoot } from '../identity/mint.ts'
import { credentialSecret } from '../proxy/support.ts'
import {
  gateway,
  listOf,
  parseYaml,
  peer,
  reachability,
  setting,
  workspace,
  yamlOf,
} from '../resources/world.ts'
import { EnvoyTarget } from './envoy-target.ts'
import { Recorder } from './recorder.ts'
import type { Resources } from './target.ts'

export const BANNER = 'banner\n'

/** cluster-1 is home, cluster-2 may call, cluster-3 is federated and may not, cluster-4 is nobody. */
export const roots = Object.fromEntries(
  ['cluster-1', 'cluster-2', 'cluster-3', 'cluster-4'].map((name) => [name, mintRoot(`root of ${name}`)]),
) as Record<'cluster-1' | 'cluster-2' | 'cluster-3' | 'cluster-4', Minted>
export type Cluster = keyof typeof roots

export const idOf = (cluster: Cluster, account: string) => `spiffe://${cluster}.local/ns/client/sa/${account}`
export const leafOf = (cluster: Cluster, account = 'sleep'): Minted =>
  mintLeaf(roots[cluster], idOf(cluster, account))

const bundles = (['cluster-1', 'cluster-2', 'cluster-3'] as const).map((name) => ({
  trustDomain: `${name}.local`,
  pem: roots[name].pem,
}))
const credential = credentialSecret(
  (({ pem, keyPem }) => ({ certificatePem: pem, privateKeyPem: keyPem }))(
    mintLeaf(roots['cluster-1'], 'spiffe://cluster-1.local/ns/bookinfo/sa/eastwest-gateway'),
  ),
)

/** One port of a service, and how it is called. */
export interface Port {
  readonly name: string
  readonly port: number
  readonly appProtocol?: string
}

export const sniOf = (service: string, port: number) =>
  `outbound_.${port}_._.${service}.bookinfo.svc.cluster.local`

/** A Service with one port and its pods, all on 127.0.0.1. */
export function serviceOf(
  name: string,
  port: Port,
  targets: readonly number[],
  { annotations = {}, mesh = false } = {},
): string {
  const slice = (target: number) => ({
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: {
      name: `${name}-${target}`,
      namespace: 'bookinfo',
      labels: { 'kubernetes.io/service-name': name },
    },
    addressType: 'IPv4',
    ports: [{ name: port.name, port: target, protocol: 'TCP' }],
    endpoints: [
      {
        addresses: ['127.0.0.1'],
        conditions: { ready: true },
        ...(mesh && { targetRef: { kind: 'Pod', name, namespace: 'bookinfo' } }),
      },
    ],
  })
  const pod = {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, namespace: 'bookinfo', labels: { app: name, 'security.istio.io/tlsMode': 'istio' } },
    spec: { serviceAccountName: name, containers: [{ name: 'main', image: 'main' }] },
  }
  return yamlOf(
    {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name, namespace: 'bookinfo', annotations },
      spec: { selector: { app: name }, ports: [{ ...port, targetPort: targets[0] ?? 1 }] },
    },
    ...targets.map(slice),
    ...(mesh ? [pod] : []),
  )
}

export const policyOf = (name: string, spec: object): string =>
  yamlOf({
    apiVersion: 'security.istio.io/v1',
    kind: 'AuthorizationPolicy',
    metadata: { name, namespace: 'bookinfo' },
    spec,
  })

const COMMON =
  gateway('127.0.0.1') +
  workspace +
  setting() +
  reachability(['cluster-1', 'cluster-2', 'cluster-3'], { 'cluster-2-network': 'cluster-1-network' }) +
  peer('cluster-2', roots['cluster-2'].pem) +
  peer('cluster-3', roots['cluster-3'].pem)

/** What discovery sends an Envoy in the gateway's place for these objects. */
export function resourcesOf(yaml: string): Resources {
  const list = listOf(parseYaml(COMMON + yaml))
  const model = computeModel({ cluster: 'cluster-1', trustDomain: 'cluster-1.local', list })
  const options = { bind: { address: '127.0.0.1', port: 0 }, bundles, secrets: true, credentialFile: '' }
  const snapshot = gatewayResources(model, model.gateways[0], options).snapshot()
  const all = (type: string): XdsResource[] => [...(snapshot.get(type)?.values() ?? [])]
  return {
    listeners: all(TYPE.listener),
    clusters: all(TYPE.cluster),
    endpoints: all(TYPE.endpoints),
    // The bundles of all would be for workloads behind mutual TLS, of which there are none: an Envoy asks for what it needs.
    secrets: [credential, ...all(TYPE.secret).filter(({ name }) => name !== 'ROOTCA')],
  }
}

export interface Knock {
  readonly sni: string
  /** Undefined: without a certificate. */
  readonly leaf: Minted | undefined
  /** What is said after the handshake; '' nothing. */
  readonly says?: string
  readonly alpn?: readonly string[]
}

/** A caller: open, until it was told something or was sent away. */
export class Caller {
  readonly socket: TLSSocket
  text = ''
  gone = false
  /** A ServerHello and a certificate came. */
  greeted = false
  readonly #waiting = new Set<() => void>()

  constructor(port: number, { sni, leaf, says = '', alpn = ['istio'] }: Knock) {
    this.socket = connect({
      host: '127.0.0.1',
      port,
      servername: sni,
      ALPNProtocols: [...alpn],
      rejectUnauthorized: false,
      ...(leaf && { cert: leaf.pem, key: leaf.keyPem }),
    })
    const progress = () => {
      for (const check of [...this.#waiting]) check()
    }
    this.socket.on('error', () => {})
    this.socket.on('secureConnect', () => {
      this.greeted = true
      if (says !== '') this.socket.write(says)
    })
    this.socket.on('data', (chunk) => {
      this.text += String(chunk)
      progress()
    })
    this.socket.on('close', () => {
      this.gone = true
      progress()
    })
    this.socket.on('end', () => this.socket.end())
  }

  until(holds: (caller: this) => boolean): Promise<void> {
    return new Promise((resolve) => {
      const check = () => {
        if (!holds(this)) return
        this.#waiting.delete(check)
        resolve()
      }
      this.#waiting.add(check)
      check()
    })
  }

  /** What it was told before it was sent away or, at least `bytes` of it, while it is still there. */
  async told(bytes: number): Promise<string> {
    await this.until(({ text, gone }) => gone || text.length >= bytes)
    const { text } = this
    this.socket.destroy()
    return text
  }
}

export class EnvoyGatewayWorld {
  readonly echo: Recorder
  readonly banner: Recorder
  readonly target: EnvoyTarget
  /** The services of the world: `web` (http), `cache` (redis), `db` (mysql), `stream` (just TCP) and `mesh` (passthrough). */
  readonly yaml: string

  private constructor(echo: Recorder, banner: Recorder, target: EnvoyTarget, yaml: string) {
    this.echo = echo
    this.banner = banner
    this.target = target
    this.yaml = yaml
  }

  static async start(): Promise<EnvoyGatewayWorld> {
    const [echo, banner] = await Promise.all([
      Recorder.listen(),
      Recorder.listen((socket) => {
        socket.write(BANNER)
        socket.pipe(socket)
      }),
    ])
    const yaml =
      serviceOf('web', { name: 'http-web', port: 9080 }, [echo.port]) +
      serviceOf('cache', { name: 'p', port: 6379, appProtocol: 'redis' }, [echo.port]) +
      serviceOf('db', { name: 'mysql', port: 3306 }, [banner.port]) +
      serviceOf('stream', { name: 'p', port: 7000 }, [banner.port]) +
      serviceOf('mesh', { name: 'http', port: 9443 }, [echo.port], {
        annotations: { 'isthmus.io/mode': 'passthrough' },
        mesh: true,
      })
    return new EnvoyGatewayWorld(echo, banner, await EnvoyTarget.start(resourcesOf(yaml)), yaml)
  }

  /** Serves the world's services and these objects besides. */
  also(yaml: string): Promise<void> {
    return this.target.update(resourcesOf(this.yaml + yaml))
  }

  knock(knock: Knock): Caller {
    return new Caller(this.target.port('eastwest'), knock)
  }

  /** Every connect that both backends have had, after one that was meant to come: none is still on its way. */
  async connects(): Promise<number> {
    const before = [this.echo.connects, this.banner.connects]
    const [web, db] = await Promise.all([
      this.knock({ sni: sniOf('web', 9080), leaf: leafOf('cluster-2'), says: 'x' }).told(1),
      this.knock({ sni: sniOf('db', 3306), leaf: leafOf('cluster-2') }).told(1),
    ])
    if (web !== 'x' || db === '') throw new Error('a good caller is not served')
    await Promise.all([
      this.echo.until(() => this.echo.connects > (before[0] ?? 0)),
      this.banner.until(() => this.banner.connects > (before[1] ?? 0)),
    ])
    return this.echo.connects + this.banner.connects - 2 * ++this.#asked
  }
  #asked = 0

  /** A counter of the Envoy. */
  async stat(name: string): Promise<number> {
    const { stats } = (await this.target.get(
      `/stats?format=json&filter=${encodeURIComponent(`^${name}$`)}`,
    )) as {
      stats: { name: string; value: number }[]
    }
    return stats.find((each) => each.name === name)?.value ?? 0
  }

  async stop(): Promise<void> {
    await this.target.stop()
    await Promise.all([this.echo.close(), this.banner.close()])
  }
}
