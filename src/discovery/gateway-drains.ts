// A gateway that is about to stop is withdrawn first: its clients elsewhere are told that nobody is ready behind it, and only when
// they have answered does it stop. It says so by subscribing, on the ADS stream that proves which gateway it is, to a type of ours
// (TYPE.withdrawal); the one resource of that type changes once it is withdrawn. The end of the stream is the end of the matter.
import type { Clock } from '../lib/clock.ts'
import type { Model, ModelGateway } from '../model/types.ts'
import type { Pod } from '../objects/types.ts'
import { rawResource } from '../xds/resource.ts'
import type { Changes, ViewSource } from '../xds/snapshot-cache.ts'
import { type Snapshot, TYPE } from '../xds/types.ts'
import { parseNodeId } from './node-id.ts'

/** How often it is looked who else serves for a gateway, while one of its pods drains. */
const LOOK_MS = 250
/** How long clients may take to answer before the gateway is told to go on without them. */
const SETTLE_MS = 2_500

export interface GatewayDrainsOptions {
  /** `node.id` of every open stream that was granted the view of a gateway: anybody else may call himself one. */
  nodeIds(): readonly string[]
  /** The cluster's pods: a pod of the gateway may be connected to another replica of this server. */
  pods(): readonly Pod[]
  /** Other gateways are withdrawn now: views have to be computed anew, and `computed` to be called. */
  changed(): void
  /** Resolves once every client has answered what it was sent. */
  settled(timeoutMs: number): Promise<boolean>
  readonly clock: Clock
}

/** One pod that drains: the node.id of its stream, its gateway and whom to tell. */
interface Draining {
  readonly nodeId: string
  /** `namespace/name`. */
  readonly gateway: string
  readonly source: WithdrawalSource
}

export class GatewayDrains {
  readonly #options: GatewayDrainsOptions
  readonly #draining = new Set<Draining>()
  readonly #marked = new WeakMap<ModelGateway, ModelGateway>()
  #withdrawn: ReadonlySet<string> = new Set()
  #cancelLook: () => void = () => {}

  constructor(options: GatewayDrainsOptions) {
    this.#options = options
  }

  /** Gateways, as `namespace/name`, of which no pod serves that does not drain. */
  get withdrawn(): ReadonlySet<string> {
    return this.#withdrawn
  }

  /** The model with those gateways marked. A gateway that is marked already keeps its object. */
  mark(model: Model): Model {
    if (this.#withdrawn.size === 0) return model
    const gateways = model.gateways.map((gateway) => {
      if (!this.#withdrawn.has(`${gateway.namespace}/${gateway.name}`)) return gateway
      const marked = this.#marked.get(gateway) ?? { ...gateway, withdrawn: true }
      this.#marked.set(gateway, marked)
      return marked
    })
    return { ...model, gateways }
  }

  /** What a pod of the gateway gets that subscribes to `TYPE.withdrawal`. `scope`: see ViewSource. */
  source(nodeId: string, gateway: string, scope: string): ViewSource {
    // The same for a stream that is judged again.
    for (const { source } of this.#draining)
      if (source.nodeId === nodeId && source.scope === scope) return source
    const source: WithdrawalSource = new WithdrawalSource(nodeId, scope, (watched) => {
      if (watched) this.#draining.add(draining)
      else this.#draining.delete(draining)
      this.#lookIn(0)
    })
    const draining: Draining = { nodeId, gateway, source }
    return source
  }

  /** The views are those of the gateways that are withdrawn now. */
  computed(): void {
    const waiting = [...this.#draining].filter(
      ({ gateway, source }) => this.#withdrawn.has(gateway) && !source.told,
    )
    if (waiting.length === 0) return
    void this.#options.settled(SETTLE_MS).then((all) => {
      const how = all ? 'every client has answered' : `some client has not answered in ${SETTLE_MS} ms`
      for (const { gateway, source } of waiting) if (this.#withdrawn.has(gateway)) source.tell(how)
    })
  }

  stop(): void {
    this.#cancelLook()
    this.#draining.clear()
  }

  #look(): void {
    const now = this.#alone()
    const same =
      now.size === this.#withdrawn.size && [...now].every((gateway) => this.#withdrawn.has(gateway))
    this.#withdrawn = now
    if (!same) this.#options.changed()
    for (const { gateway, source } of this.#draining)
      if (!now.has(gateway) && !source.told) source.tell('other pods serve')
    if (this.#draining.size > 0) this.#lookIn(LOOK_MS)
  }

  #lookIn(ms: number): void {
    this.#cancelLook()
    this.#cancelLook = this.#options.clock.after(ms, () => this.#look())
  }

  /** Gateways that drain and of which no other pod is connected, or known to be ready. */
  #alone(): ReadonlySet<string> {
    const alone = new Set([...this.#draining].map(({ gateway }) => gateway))
    if (alone.size === 0) return alone
    const draining = new Set([...this.#draining].map(({ nodeId }) => nodeId))
    const leaving = new Set([...draining].map((id) => id.split('~')[1] ?? ''))
    for (const id of this.#options.nodeIds()) {
      const node = draining.has(id) ? undefined : parseNodeId(id)
      if (node?.ok && node.value.kind === 'router') alone.delete(`${node.value.namespace}/${node.value.name}`)
    }
    for (const pod of alone.size === 0 ? [] : this.#options.pods()) {
      if (pod.ready && !pod.podIPs.some((ip) => leaving.has(ip))) alone.delete(gatewayOf(pod))
    }
    return alone
  }
}

/** Named as the model names what runs gateways: by the label `app`, else by the service account. */
function gatewayOf({ metadata, spec }: Pod): string {
  return `${metadata.namespace}/${metadata.labels['app'] ?? (spec.serviceAccountName || 'default')}`
}

const WITHDRAWAL = 'withdrawal'

/** Says nothing until the pod is withdrawn, and then how that went. */
class WithdrawalSource implements ViewSource {
  readonly nodeId: string
  readonly scope: string
  readonly #onWatched: (watched: boolean) => void
  readonly #watchers = new Set<(changes: Changes) => void>()
  #snapshot = withdrawal('')
  #told = false

  constructor(nodeId: string, scope: string, onWatched: (watched: boolean) => void) {
    this.nodeId = nodeId
    this.scope = scope
    this.#onWatched = onWatched
  }

  get told(): boolean {
    return this.#told
  }

  current(): Snapshot {
    return this.#snapshot
  }

  watch(callback: (changes: Changes) => void): () => void {
    this.#watchers.add(callback)
    if (this.#watchers.size === 1) this.#onWatched(true)
    return () => {
      if (this.#watchers.delete(callback) && this.#watchers.size === 0) this.#onWatched(false)
    }
  }

  /** `how`: for the gateway's log. */
  tell(how: string): void {
    this.#told = true
    this.#snapshot = withdrawal(how)
    for (const watcher of [...this.#watchers]) watcher(new Map([[TYPE.withdrawal, new Set([WITHDRAWAL])]]))
  }
}

/** One resource from the start, so that an answer without it means a discovery that does not know of this. Its body is a text. */
function withdrawal(how: string): Snapshot {
  return new Map([
    [TYPE.withdrawal, new Map([[WITHDRAWAL, rawResource(WITHDRAWAL, TYPE.withdrawal, Buffer.from(how))]])],
  ])
}
