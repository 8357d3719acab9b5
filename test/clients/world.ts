// Two clusters of real processes: cluster-1 serves through two gateways, cluster-2 calls. Backends and clients are real ones too.
import { mkdirSync } from 'node:fs'
import { rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type Ca, createCa } from '../../src/identity/ca.ts'
import { writeCredential } from '../../src/identity/ca-folder.ts'
import { TrustBundle } from '../../src/identity/trust-bundle.ts'
import { freePort, folder as newFolder, Pod, type Scope } from '../process/pod.ts'
import { gateway, peer, reachability, setting, workspace, yamlOf } from '../resources/world.ts'

const ANY = '127.0.0.1:0'
/** Two addresses of one load balancer, a gateway pod behind each; this process's own, so that test files do not meet. */
const NET = `127.${64 + (process.pid % 128)}`
export const GATEWAYS = [`${NET}.255.1`, `${NET}.255.2`] as const
/** Where Envoys have their listeners. */
export const bindRange = (index: number): string => `${NET}.${16 * index}.0/20`

const NETWORKS = reachability(['cluster-1', 'cluster-2'], { 'cluster-2-network': 'cluster-1-network' })

/** A Service `productpage` whose port speaks gRPC, with these addresses ready. */
export function productpage(addresses: readonly string[]): string {
  const [host = '127.0.0.1', port = '9080'] = (addresses[0] ?? '').split(':')
  const metadata = { name: 'productpage', namespace: 'bookinfo', labels: { app: 'productpage' } }
  const labels = { 'kubernetes.io/service-name': 'productpage' }
  return yamlOf(
    {
      ...{ apiVersion: 'v1', kind: 'Service', metadata },
      spec: { ports: [{ name: 'grpc', port: 9080, targetPort: Number(port) }] },
    },
    {
      ...{ apiVersion: 'discovery.k8s.io/v1', kind: 'EndpointSlice', addressType: 'IPv4' },
      metadata: { name: 'productpage-1', namespace: 'bookinfo', labels },
      ports: [{ name: 'grpc', port: Number(port), protocol: 'TCP' }],
      endpoints: addresses.length === 0 ? [] : [{ addresses: [host], conditions: { ready: true } }],
    },
  )
}

/** One cluster: its CA, its objects, its discovery server. */
export class Cluster {
  readonly name: string
  /** Who issues now. */
  ca: Ca
  /** Of those before it too. */
  bundlePem: string
  readonly folder: string
  readonly ads: number
  readonly adsPlain: number
  #discovery: Pod | undefined

  private constructor(name: string, ca: Ca, folder: string, ads: number, adsPlain: number) {
    this.name = name
    this.ca = ca
    this.bundlePem = ca.bundlePem
    this.folder = folder
    this.ads = ads
    this.adsPlain = adsPlain
  }

  static async create(scope: Scope, name: string): Promise<Cluster> {
    const [ca, ads, plain] = await Promise.all([
      createCa({ trustDomain: `${name}.local` }),
      freePort(),
      freePort(),
    ])
    const cluster = new Cluster(name, ca, newFolder(scope), ads, plain)
    mkdirSync(join(cluster.folder, 'yaml'))
    await cluster.certifyDiscovery()
    return cluster
  }

  certifyDiscovery(): Promise<string> {
    return this.certify('discovery', 'isthmus-system', 'isthmus-discovery', ['localhost'])
  }

  /** Another CA issues from now on; its predecessor is still trusted. */
  async renewCa(): Promise<void> {
    this.ca = await createCa({ trustDomain: this.ca.trustDomain })
    this.bundlePem += this.ca.bundlePem
    await this.certifyDiscovery()
  }

  get bundle(): TrustBundle {
    const bundle = TrustBundle.parse(this.ca.trustDomain, this.bundlePem, this.name)
    if (!bundle.ok) throw new Error(bundle.error.message)
    return bundle.value
  }

  /** A credential as a mounted Secret has it; replaces one of the same name. Returns its folder. */
  async certify(name: string, namespace: string, serviceAccount: string, dnsNames: string[] = []) {
    const directory = join(this.folder, name)
    const issued = await this.ca.issue({ namespace, serviceAccount, dnsNames })
    await writeCredential(directory, { ...issued, bundlePem: this.bundlePem })
    return directory
  }

  /** Saves a file of objects, whole or not at all. */
  async save(name: string, yaml: string): Promise<void> {
    const file = join(this.folder, 'yaml', `${name}.yaml`)
    await writeFile(`${file}.tmp`, yaml)
    await rename(`${file}.tmp`, file)
  }

  async remove(name: string): Promise<void> {
    await rm(join(this.folder, 'yaml', `${name}.yaml`))
  }

  /** On the same ports each time. */
  async start(scope: Scope): Promise<Pod> {
    const places = ['--objects', join(this.folder, 'yaml'), '--certs', join(this.folder, 'discovery')]
    const ports = { ads: `127.0.0.1:${this.ads}`, 'ads-plain': `127.0.0.1:${this.adsPlain}` }
    const flags = Object.entries({ ...ports, admin: ANY, health: ANY, metrics: ANY })
    this.#discovery = new Pod(scope, [
      ...['discovery', '--cluster', this.name, ...places],
      ...flags.flatMap(([flag, at]) => [`--${flag}`, at]),
    ])
    await this.#discovery.line(({ msg }) => msg === 'ready')
    return this.#discovery
  }

  /** As a machine that fails: without a word. */
  async kill(): Promise<void> {
    this.#discovery?.process.kill('SIGKILL')
    await this.#discovery?.exit
  }

  /** What it knows of its clients. */
  async clients(): Promise<readonly ClientStatus[]> {
    if (this.#discovery === undefined) return []
    const ready = await this.#discovery.line(({ msg }) => msg === 'ready')
    const { host, port } = ready['admin'] as { host: string; port: number }
    return (await (await fetch(`http://${host}:${port}/clients`)).json()) as ClientStatus[]
  }
}

export interface ClientStatus {
  readonly nodeId: string
  readonly userAgent: string
  readonly types: Readonly<Record<string, { readonly lastError: string; readonly ackedVersion: string }>>
}

export class World {
  readonly serving: Cluster
  readonly calling: Cluster
  readonly port: number
  readonly #scope: Scope
  readonly #gateways = new Map<string, Pod>()

  private constructor(scope: Scope, serving: Cluster, calling: Cluster, port: number) {
    this.#scope = scope
    this.serving = serving
    this.calling = calling
    this.port = port
  }

  /** `productpage` of cluster-1 is served by `backend`, through both gateways; cluster-2 may call. */
  static async create(scope: Scope, backend: string): Promise<World> {
    const [serving, calling, port] = await Promise.all([
      Cluster.create(scope, 'cluster-1'),
      Cluster.create(scope, 'cluster-2'),
      freePort(),
    ])
    const exposed = gateway(GATEWAYS[0], 'bookinfo', port).replace(
      `{"ip":"${GATEWAYS[0]}"}`,
      GATEWAYS.map((ip) => JSON.stringify({ ip })).join(','),
    )
    const known = peer('cluster-2', calling.ca.bundlePem)
    await serving.save('base', exposed + workspace + setting() + NETWORKS + known)
    await serving.save('productpage', productpage([backend]))
    const world = new World(scope, serving, calling, port)
    await world.trust()
    await Promise.all([serving.start(scope), calling.start(scope)])
    await Promise.all(GATEWAYS.map((address) => world.startGateway(address)))
    return world
  }

  /** Tells cluster-2 which CAs cluster-1 has now. */
  async trust(): Promise<void> {
    const { ads, bundlePem } = this.serving
    await this.calling.save('base', NETWORKS + peer('cluster-1', bundlePem, `127.0.0.1:${ads}`))
  }

  /** A gateway pod behind one of the addresses, with a new certificate. */
  async startGateway(address: string): Promise<Pod> {
    const certs = await this.serving.certify(`gateway-${address}`, 'bookinfo', 'eastwest-gateway')
    const who = ['--cluster', 'cluster-1', '--name', 'eastwest-gateway', '--namespace', 'bookinfo']
    const where = ['--discovery', `127.0.0.1:${this.serving.ads}`, '--certs', certs]
    const pod = new Pod(this.#scope, [
      ...['gateway', ...who, ...where, '--bind', `${address}:${this.port}`],
      ...['--run-dir', join(this.serving.folder, `run-${address}`)],
      ...['--admin', ANY, '--health', ANY, '--metrics', ANY],
      ...['--workers', '1', '--drain-delay', '0s', '--drain', '0s', '--access-log', 'json'],
    ])
    this.#gateways.set(address, pod)
    await pod.ready('gateway')
    return pod
  }

  get gateways(): Pod[] {
    return [...this.#gateways.values()]
  }

  /** As a machine that fails: all its processes at once. */
  async killGateway(address: string): Promise<void> {
    const pod = this.#gateways.get(address)
    if (pod === undefined) throw new Error(`no gateway at ${address}`)
    const children = await Promise.all([pod.pid('worker'), pod.pid('supervisor')])
    pod.process.kill('SIGKILL')
    for (const pid of children) process.kill(pid, 'SIGKILL')
    await pod.exit
  }
}
