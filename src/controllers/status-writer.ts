import { canonicalJson } from '../lib/canonical.ts'
import type { Clock } from '../lib/clock.ts'
import type { Logger } from '../lib/log.ts'
import { REMEMBERED, type RememberedTransition } from '../model/remembered-transition.ts'
import { CONDITION_TYPES, type ModelCondition, type ModelGateway } from '../model/types.ts'
import type { ObjectStore } from '../objects/store.ts'
import { type Condition, type Kind, type KubeObject, refKey, refOf } from '../objects/types.ts'
import { ReconcileLoop } from './reconcile-loop.ts'

export interface StatusWriterOptions {
  readonly store: ObjectStore
  readonly logger: Logger
  readonly clock?: Clock
}

export interface StatusInput {
  readonly conditions: readonly ModelCondition[]
  readonly gateways: readonly ModelGateway[]
  /** What the next process has to know of networks that are being named: into the status of this cluster's Cluster. */
  readonly networkChange?: { readonly cluster: string; readonly remembered: RememberedTransition | undefined }
}

/** Kinds that we may say something about. A Secret has no status in Kubernetes; pods and slices belong to others. */
const KINDS: readonly Kind[] = [
  'Workspace',
  'WorkspaceSetting',
  'OrganizationSetting',
  'Cluster',
  'IngressGateway',
  'Gateway',
  'ServiceEntry',
  'DestinationRule',
  'AuthorizationPolicy',
  'Service',
]
/** Condition types of ours; those of others are kept as they are. */
const OURS: ReadonlySet<string> = new Set(CONDITION_TYPES)

/** Kinds whose status says more than the model's conditions. */
const SAYS_MORE: ReadonlySet<string> = new Set(['Cluster', 'IngressGateway', 'Gateway'])
const NONE: readonly ModelCondition[] = []

/** Writes what the model made of each object into its status: only what changed, so that writing never feeds on itself. */
export class StatusWriter {
  readonly #options: StatusWriterOptions
  readonly #loop: ReconcileLoop
  /** refKey → the status written last, as JSON. */
  readonly #written = new Map<string, string>()
  /** By object, as it is now: what was found for it last. Most are as they were. */
  readonly #settled = new WeakMap<
    KubeObject,
    { readonly key: string; readonly own: readonly ModelCondition[] }
  >()
  #input: StatusInput | undefined

  constructor(options: StatusWriterOptions) {
    this.#options = options
    this.#loop = new ReconcileLoop({ ...options, name: 'status', run: () => this.#reconcile() })
  }

  set(input: StatusInput): void {
    this.#input = input
    this.#loop.trigger()
  }

  idle(): Promise<void> {
    return this.#loop.idle()
  }

  stop(): Promise<void> {
    return this.#loop.stop()
  }

  async #reconcile(): Promise<void> {
    const input = this.#input
    if (input === undefined) return
    const byObject = Map.groupBy(input.conditions, ({ object }) => object)
    const gateways = new Map(
      input.gateways.map((gateway) => [`${gateway.namespace}/${gateway.name}`, gateway]),
    )
    const present = new Set<string>()
    for (const object of KINDS.flatMap((kind): readonly KubeObject[] => this.#options.store.list(kind))) {
      const settled = this.#settled.get(object)
      const key = settled?.key ?? refKey(refOf(object))
      present.add(key)
      const own = byObject.get(key) ?? NONE
      if (settled !== undefined && !SAYS_MORE.has(object.kind) && isSame(settled.own, own)) continue
      await this.#write(object, key, {
        ...statusOf(object, own, gateways),
        ...transitionOf(object, input.networkChange),
      })
      this.#settled.set(object, { key, own })
    }
    for (const key of this.#written.keys()) if (!present.has(key)) this.#written.delete(key)
  }

  async #write(object: KubeObject, key: string, status: Status): Promise<void> {
    const text = canonicalJson(status)
    const known = this.#written.get(key)
    if (known === text) return
    // After a restart the object itself says what was written.
    const fresh =
      known === undefined &&
      sameConditions(object.conditions, status.conditions) &&
      status.addresses === undefined &&
      status[REMEMBERED] === undefined
    if (!fresh) await this.#options.store.updateStatus(refOf(object), { ...status })
    this.#written.set(key, text)
  }
}

interface Status {
  readonly conditions: readonly Condition[]
  /** Of a gateway: where other networks reach it. */
  readonly addresses?: readonly { readonly value: string; readonly port: number }[]
  readonly [REMEMBERED]?: RememberedTransition | null
}

/** Nothing of it where no change is unfinished, and none was. */
function transitionOf(
  object: KubeObject,
  change: StatusInput['networkChange'],
): Pick<Status, typeof REMEMBERED> {
  if (object.kind !== 'Cluster' || object.metadata.name !== change?.cluster) return {}
  const status = object.raw['status'] as Record<string, unknown> | undefined
  const { remembered = null } = change
  return remembered === null && (status?.[REMEMBERED] ?? null) === null ? {} : { [REMEMBERED]: remembered }
}

function statusOf(
  object: KubeObject,
  own: readonly ModelCondition[],
  gateways: ReadonlyMap<string, ModelGateway>,
): Status {
  const conditions = [
    ...object.conditions.filter(({ type }) => !OURS.has(type)),
    ...own.map(({ type, status, reason, message }) => ({
      type,
      status: status ? ('True' as const) : ('False' as const),
      reason,
      message,
    })),
  ]
  if (object.kind !== 'IngressGateway' && object.kind !== 'Gateway') return { conditions }
  const gateway = gateways.get(`${object.metadata.namespace}/${object.metadata.name}`)
  const addresses = (gateway?.addresses ?? []).map(({ address, port }) => ({ value: address, port }))
  return { conditions, addresses }
}

const isSame = (a: readonly ModelCondition[], b: readonly ModelCondition[]): boolean =>
  a === b || (a.length === b.length && a.every((one, i) => one === b[i]))

function sameConditions(a: readonly Condition[], b: readonly Condition[]): boolean {
  const text = (list: readonly Condition[]): string =>
    canonicalJson(list.map(({ type, status, reason, message }) => [type, status, reason, message]))
  return text(a) === text(b)
}
