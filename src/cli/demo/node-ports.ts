import { connect, createServer, type Server } from 'node:net'
import { formatProblem } from '../../lib/result.ts'
import type { ObjectStore } from '../../objects/store.ts'
import type { Manifest, Service, ServicePort } from '../../objects/types.ts'
import { matches } from './endpoint-slices.ts'
import { freePort } from './free-address.ts'
import type { DemoPod } from './pod.ts'

/** Kubernetes' default range begins here. */
const FIRST_NODE_PORT = 30_000

export interface NodePortsOptions {
  readonly store: ObjectStore
  readonly notice: (text: string) => void
  /** The node's own address. */
  readonly nodeAddress: string
}

/** Plays API server and kube-proxy for Services of type NodePort: gives each port its number, and forwards it to ready pods. */
export class NodePorts {
  readonly #options: NodePortsOptions
  readonly #servers = new Map<number, Server>()
  /** Where each node port leads now: `host:port` of ready pods. */
  readonly #backends = new Map<number, readonly { readonly host: string; readonly port: number }[]>()

  constructor(options: NodePortsOptions) {
    this.#options = options
  }

  stop(): void {
    for (const nodePort of [...this.#servers.keys()]) this.#close(nodePort)
  }

  async reconcile(pods: readonly DemoPod[]): Promise<void> {
    const services = this.#options.store.list('Service').filter(({ spec }) => spec.type === 'NodePort')
    const taken = new Set(services.flatMap(({ spec }) => spec.ports.map(({ nodePort }) => nodePort)))
    const wanted = new Set<number>()
    for (const service of services) {
      await this.#allocate(service, taken)
      for (const port of service.spec.ports) {
        if (port.nodePort === undefined || port.protocol !== 'TCP') continue
        wanted.add(port.nodePort)
        this.#backends.set(port.nodePort, backendsOf(service, port, pods))
        this.#listen(port.nodePort)
      }
    }
    for (const nodePort of this.#servers.keys()) if (!wanted.has(nodePort)) this.#close(nodePort)
  }

  /** What the API server does at once; the ports that get a number here are listened on in the next pass. */
  async #allocate(service: Service, taken: Set<number | undefined>): Promise<void> {
    if (service.spec.ports.every(({ nodePort }) => nodePort !== undefined)) return
    const spec = service.raw['spec'] as { readonly ports: readonly Manifest[] }
    const ports: Manifest[] = []
    for (const port of spec.ports) {
      const nodePort = port['nodePort'] ?? (await this.#free(taken))
      ports.push({ ...port, nodePort })
    }
    const applied = await this.#options.store.apply({ ...service.raw, spec: { ...spec, ports } })
    if (!applied.ok) this.#options.notice(formatProblem(applied.error))
  }

  async #free(taken: Set<number | undefined>): Promise<number> {
    let from = FIRST_NODE_PORT
    while (taken.has(from)) from++
    const port = await freePort(this.#options.nodeAddress, from)
    taken.add(port)
    return port
  }

  #listen(nodePort: number): void {
    if (this.#servers.has(nodePort)) return
    const server = createServer({ allowHalfOpen: true }, (client) => {
      client.on('error', () => {})
      const backends = this.#backends.get(nodePort) ?? []
      const backend = backends[Math.floor(Math.random() * backends.length)]
      if (backend === undefined) return void client.resetAndDestroy()
      const upstream = connect({ ...backend, allowHalfOpen: true })
      upstream.on('error', () => client.destroy()).on('close', () => client.destroy())
      client.on('close', () => upstream.destroy())
      client.pipe(upstream).pipe(client)
    })
    server.on('error', (error) => this.#options.notice(`node port ${nodePort}: ${error.message}`))
    server.listen(nodePort, this.#options.nodeAddress)
    this.#servers.set(nodePort, server)
  }

  #close(nodePort: number): void {
    this.#servers.get(nodePort)?.close()
    this.#servers.delete(nodePort)
    this.#backends.delete(nodePort)
  }
}

function backendsOf({ metadata, spec }: Service, { targetPort }: ServicePort, pods: readonly DemoPod[]) {
  return pods.flatMap((pod) => {
    const { labels, containers, ip } = pod.facts()
    if (!pod.ready || pod.terminating || pod.namespace !== metadata.namespace) return []
    if (!matches(spec.selector, labels)) return []
    const ports = containers.flatMap((container) => container.ports)
    const port =
      typeof targetPort === 'number'
        ? (pod.gatewayPorts?.data ?? targetPort)
        : ports.find(({ name }) => name === targetPort)?.containerPort
    return port === undefined ? [] : [{ host: ip, port }]
  })
}
