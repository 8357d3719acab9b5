// Plays, for one cluster, what Kubernetes would do around Isthmus: the kubelet (pods as processes), the Deployment and
// EndpointSlice controllers, node ports, and the cloud's load balancer. All of it through the objects port, so that discovery and
// its controllers cannot tell the difference. It also runs the cluster's discovery server and its sidecar.
import type { Logger } from '../../lib/log.ts'
import { formatProblem } from '../../lib/result.ts'
import type { ObjectStore } from '../../objects/store.ts'
import { type Deployment, type Manifest, type ObjectRef, refKey, refOf } from '../../objects/types.ts'
import type { ProcessTree } from './descendants.ts'
import { endpointSlices, MANAGED_BY } from './endpoint-slices.ts'
import { LoadBalancer } from './load-balancer.ts'
import type { MachineConfig, PodReport } from './machine-config.ts'
import { NodePorts } from './node-ports.ts'
import { DemoPod, type PodEvents, templateHash } from './pod.ts'

export interface MachineOptions {
  readonly config: MachineConfig
  readonly store: ObjectStore
  readonly logger: Logger
  readonly notice: (text: string) => void
  /** Pods changed. */
  readonly changed: () => void
  readonly issueCertificate: PodEvents['issueCertificate']
}

/** Changes are gathered this long before the cluster is reconciled, milliseconds. */
const GATHER_MS = 30

export class Machine {
  readonly #options: MachineOptions
  readonly #pods = new Map<string, DemoPod>()
  readonly #written = new Map<string, string>()
  readonly #loadBalancer: LoadBalancer
  readonly #nodePorts: NodePorts
  #unwatch: (() => void) | undefined
  #timer: NodeJS.Timeout | undefined
  #running: Promise<void> | undefined
  #again = false
  #closing = false

  constructor(options: MachineOptions) {
    this.#options = options
    this.#loadBalancer = new LoadBalancer({
      store: options.store,
      notice: options.notice,
      wake: () => this.#wake(),
    })
    const { store, notice } = options
    this.#nodePorts = new NodePorts({ store, notice, nodeAddress: options.config.nodeAddress })
  }

  start(): void {
    this.#unwatch = this.#options.store.watch(() => this.#wake())
    this.#wake()
  }

  async stop(): Promise<void> {
    this.#closing = true
    this.#unwatch?.()
    clearTimeout(this.#timer)
    this.#loadBalancer.stop()
    await this.#running
    this.#nodePorts.stop()
    await Promise.all([...this.#pods.values()].map((pod) => pod.stop()))
  }

  report(processTree: ProcessTree): PodReport[] {
    return [...this.#pods.values()]
      .map((pod) => pod.report(processTree))
      .sort((a, b) => (a.name < b.name ? -1 : 1))
  }

  #wake(): void {
    if (this.#closing || this.#timer !== undefined) return
    this.#timer = setTimeout(() => {
      this.#timer = undefined
      this.#run()
    }, GATHER_MS)
  }

  /** One pass at a time; a change during a pass makes one more. */
  #run(): void {
    if (this.#running !== undefined) {
      this.#again = true
      return
    }
    this.#running = this.#reconcile()
      .catch((error: unknown) => this.#options.logger.error({ err: error }, 'reconcile failed'))
      .finally(() => {
        this.#running = undefined
        if (this.#again) this.#wake()
        this.#again = false
      })
  }

  async #reconcile(): Promise<void> {
    for (const deployment of this.#options.store.list('Deployment')) this.#scale(deployment)
    this.#endOrphans()
    await this.#writeObjects()
    const pods = [...this.#pods.values()]
    await this.#loadBalancer.reconcile(pods)
    await this.#nodePorts.reconcile(pods)
    this.#options.changed()
  }

  /** Starts what is missing; ends what is too many or of an older template, once the newer ones serve. */
  #scale(deployment: Deployment): void {
    const { replicas } = deployment.spec
    const pods = [...this.#pods.values()].filter((pod) => isOf(pod, deployment) && !pod.terminating)
    const hash = templateHash(deployment)
    const current = pods.filter((pod) => pod.hash === hash)
    for (let missing = replicas - current.length; missing > 0; missing--) this.#startPod(deployment)
    for (const pod of current.slice(replicas)) this.#endPod(pod)
    const served = current.filter((pod) => pod.ready).length >= replicas
    if (served) for (const pod of pods) if (pod.hash !== hash) this.#endPod(pod)
  }

  #startPod(deployment: Deployment): void {
    const { config } = this.#options
    const prefix = DemoPod.isGateway(deployment) ? config.gatewayPrefix : config.podPrefix
    const taken = new Set([...this.#pods.values()].map((pod) => pod.ip))
    const ip = lowestFree(10, 250, (n) => `${prefix}.${n}`, taken)
    const name = (n: number) => `${deployment.metadata.name}-${templateHash(deployment)}-${n}`
    const names = new Set([...this.#pods.values()].map((pod) => pod.name))
    const ordinal = Number(
      lowestFree(0, 240, String, new Set([...names].flatMap((used) => ordinalOf(used, name)))),
    )
    const pod = DemoPod.create(deployment, ordinal, ip, config, {
      changed: () => this.#wake(),
      notice: this.#options.notice,
      issueCertificate: this.#options.issueCertificate,
    })
    if (pod === undefined) {
      const { source } = deployment
      this.#sayOnce(
        `${source} Deployment/${deployment.metadata.name}: spec.template.spec.containers[0]: this machine runs the image isthmus, or a command of the host`,
      )
      return
    }
    this.#pods.set(`${pod.namespace}/${pod.name}`, pod)
    pod.start().catch((error: Error) => this.#options.notice(`${pod.name}: ${error.message}`))
  }

  #endPod(pod: DemoPod): void {
    void pod.stop().then(() => {
      this.#pods.delete(`${pod.namespace}/${pod.name}`)
      this.#wake()
    })
  }

  #endOrphans(): void {
    const deployments = this.#options.store.list('Deployment')
    for (const pod of this.#pods.values()) {
      if (!pod.terminating && !deployments.some((deployment) => isOf(pod, deployment))) this.#endPod(pod)
    }
  }

  /** Pods and EndpointSlices as objects; those that nothing stands behind any more go, of an earlier run too. */
  async #writeObjects(): Promise<void> {
    const { store, config } = this.#options
    const pods = [...this.#pods.values()]
    const facts = pods.map((pod) => pod.facts())
    const wanted = [
      ...pods.map((pod) => pod.manifest()),
      ...store.list('Service').flatMap((service) => endpointSlices(service, facts)),
    ]
    const keys = new Set<string>()
    for (const manifest of wanted) keys.add(await this.#write(manifest))
    const ours = [
      ...store.list('Pod').filter((pod) => pod.spec.nodeName === config.cluster),
      ...store.list('EndpointSlice').filter((slice) => slice.metadata.labels[MANAGED_LABEL] === MANAGED_BY),
    ]
    for (const object of ours) if (!keys.has(refKey(refOf(object)))) await this.#remove(refOf(object))
  }

  async #write(manifest: Manifest): Promise<string> {
    const { kind, metadata } = manifest as { kind: string; metadata: { namespace: string; name: string } }
    const key = [kind, metadata.namespace, metadata.name].join('/')
    const text = JSON.stringify(manifest)
    if (this.#written.get(key) === text) return key
    const outcome = await this.#options.store.apply(manifest)
    if (outcome.ok) this.#written.set(key, text)
    else this.#sayOnce(formatProblem(outcome.error))
    return key
  }

  async #remove(ref: ObjectRef): Promise<void> {
    this.#written.delete(refKey(ref))
    await this.#options.store.delete(ref)
  }

  readonly #said = new Set<string>()
  #sayOnce(text: string): void {
    if (this.#said.has(text)) return
    this.#said.add(text)
    this.#options.notice(text)
  }
}

const MANAGED_LABEL = 'endpointslice.kubernetes.io/managed-by'

function isOf(pod: DemoPod, deployment: Deployment): boolean {
  return pod.deployment === deployment.metadata.name && pod.namespace === deployment.metadata.namespace
}

function ordinalOf(podName: string, name: (n: number) => string): string[] {
  const ordinal = podName.slice(podName.lastIndexOf('-') + 1)
  return name(Number(ordinal)) === podName ? [ordinal] : []
}

function lowestFree(
  first: number,
  last: number,
  make: (n: number) => string,
  taken: ReadonlySet<string>,
): string {
  for (let n = first; n <= last; n++) if (!taken.has(make(n))) return make(n)
  throw new Error(`${make(first)} to ${make(last)} are all taken`)
}
