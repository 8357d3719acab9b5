import type { ObjectStore } from '../../objects/store.ts'
import { refKey, refOf, type Service } from '../../objects/types.ts'
import { matches } from './endpoint-slices.ts'
import type { DemoPod } from './pod.ts'

/** On a Service: the address never comes, as with an exhausted quota. */
const PENDING_ANNOTATION = 'demo.isthmus.io/load-balancer'
/** Istio's label: the gateway's port, where it is not 15443. */
const PORT_LABEL = 'networking.istio.io/gatewayPort'
/** From the first healthy backend to the address: a cloud takes its time, so that "awaiting" can be seen; milliseconds. */
const PROVISIONING_MS = 1_500

export interface LoadBalancerOptions {
  readonly store: ObjectStore
  readonly notice: (text: string) => void
  /** Asks for another `reconcile`. */
  readonly wake: () => void
}

/**
 * The cloud's load balancer: gives each Service of type LoadBalancer an external address some time after its first pod was ready. The
 * address is that of the gateway's pod itself: every address of the demo can be reached directly.
 */
export class LoadBalancer {
  readonly #options: LoadBalancerOptions
  readonly #seenMs = new Map<string, number>()
  readonly #timers = new Set<NodeJS.Timeout>()

  constructor(options: LoadBalancerOptions) {
    this.#options = options
  }

  stop(): void {
    for (const timer of this.#timers) clearTimeout(timer)
  }

  async reconcile(pods: readonly DemoPod[]): Promise<void> {
    const all = this.#options.store.list('Service')
    const services = all.filter(({ spec }) => spec.type === 'LoadBalancer')
    // As in a cloud: who wants no load balancer any more loses its address.
    for (const service of all) if (!services.includes(service)) await this.#assign(service, [])
    const keys = new Set(services.map((service) => refKey(refOf(service))))
    for (const key of this.#seenMs.keys()) if (!keys.has(key)) this.#seenMs.delete(key)
    for (const service of services) await this.#provision(service, pods)
  }

  async #provision(service: Service, pods: readonly DemoPod[]): Promise<void> {
    const backends = pods.filter((pod) => !pod.terminating && isBackend(pod, service))
    if (
      !this.#due(
        service,
        backends.some((pod) => pod.ready),
      )
    )
      return
    const pending = service.metadata.annotations[PENDING_ANNOTATION] === 'pending'
    const addresses = pending ? [] : backends.map((pod) => pod.ip).sort()
    const port = backends[0]?.gatewayPorts?.data
    if (port !== undefined) await this.#labelPort(service, port)
    await this.#assign(service, addresses)
  }

  async #assign(service: Service, addresses: readonly string[]): Promise<void> {
    const known = service.loadBalancer.map(({ ip }) => ip ?? '')
    if (JSON.stringify(known) === JSON.stringify(addresses)) return
    await this.#options.store.updateStatus(refOf(service), {
      loadBalancer: { ingress: addresses.map((ip) => ({ ip })) },
    })
  }

  /** Whether its time has come; asks to be called again when only time is missing. */
  #due(service: Service, healthy: boolean): boolean {
    const key = refKey(refOf(service))
    const nowMs = Date.now()
    const seenMs = this.#seenMs.get(key)
    if (seenMs !== undefined && nowMs - seenMs >= PROVISIONING_MS) return true
    if (seenMs === undefined && !healthy) return false
    if (seenMs === undefined) this.#seenMs.set(key, nowMs)
    const timer = setTimeout(
      () => {
        this.#timers.delete(timer)
        this.#options.wake()
      },
      PROVISIONING_MS - (nowMs - (seenMs ?? nowMs)) + 1,
    )
    this.#timers.add(timer)
    return false
  }

  async #labelPort(service: Service, port: number): Promise<void> {
    const label = service.metadata.labels[PORT_LABEL]
    if ((label ?? '15443') === String(port)) return
    const labels = { ...service.metadata.labels, [PORT_LABEL]: String(port) }
    const { raw } = service
    await this.#options.store.apply({ ...raw, metadata: { ...(raw['metadata'] as object), labels } })
  }
}

function isBackend(pod: DemoPod, { metadata, spec }: Service): boolean {
  return pod.namespace === metadata.namespace && matches(spec.selector, pod.facts().labels)
}
