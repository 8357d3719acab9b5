import type { Clock } from '../lib/clock.ts'
import type { Logger } from '../lib/log.ts'
import { type Problem, problem } from '../lib/result.ts'
import type { ObjectStore } from '../objects/store.ts'
import {
  type Deployment,
  type Gateway,
  type IngressGateway,
  type Manifest,
  refKey,
  refOf,
  type Service,
} from '../objects/types.ts'
import { type GatewayPodOptions, gatewayManifests, OWNER } from './gateway-manifests.ts'
import { isManaged, isSubset } from './manifest.ts'
import { ReconcileLoop } from './reconcile-loop.ts'

export interface GatewayLifecycleOptions {
  readonly store: ObjectStore
  readonly logger: Logger
  readonly pods: GatewayPodOptions
  readonly clock?: Clock
}

const WATCHED = new Set(['IngressGateway', 'Gateway', 'Deployment', 'Service'])

/**
 * Gives each east-west gateway object its Deployment and Service, and takes them away with it. What runs a Deployment (a kubelet,
 * the demo's machine) is no business of this controller.
 */
export class GatewayLifecycle {
  readonly #options: GatewayLifecycleOptions
  readonly #loop: ReconcileLoop
  #unwatch: () => void = () => {}
  #problems: readonly Problem[] = []

  constructor(options: GatewayLifecycleOptions) {
    this.#options = options
    this.#loop = new ReconcileLoop({ ...options, name: 'gateways', run: () => this.#reconcile() })
  }

  /** To be called once the store is synced: a gateway that was not read yet would look deleted. */
  start(): void {
    this.#unwatch = this.#options.store.watch((changes) => {
      if (changes.some(({ object }) => WATCHED.has(object.kind))) this.#loop.trigger()
    })
    this.#loop.trigger()
  }

  /** What could not be made, and why. */
  problems(): readonly Problem[] {
    return this.#problems
  }

  idle(): Promise<void> {
    return this.#loop.idle()
  }

  async stop(): Promise<void> {
    this.#unwatch()
    await this.#loop.stop()
  }

  async #reconcile(): Promise<void> {
    const { store, pods, logger } = this.#options
    const present = new Map<string, Deployment | Service>(
      [...store.list('Deployment'), ...store.list('Service')].map((object) => [
        refKey(refOf(object)),
        object,
      ]),
    )
    const problems: Problem[] = []
    const wanted = new Set<string>()
    for (const object of servingObjects(store)) {
      for (const manifest of gatewayManifests(object, pods)) {
        const key = `${manifest['kind']}/${object.metadata.namespace}/${object.metadata.name}`
        wanted.add(key)
        const found = await this.#make(manifest, key, present.get(key))
        if (found !== undefined) problems.push(found)
      }
    }
    for (const [key, object] of present) {
      if (wanted.has(key) || !isManaged(object) || object.metadata.annotations[OWNER] === undefined) continue
      await store.delete(refOf(object))
      logger.info({ object: key, owner: object.metadata.annotations[OWNER] }, 'removed with its gateway')
    }
    this.#problems = problems
  }

  async #make(
    manifest: Manifest,
    key: string,
    object: Deployment | Service | undefined,
  ): Promise<Problem | undefined> {
    if (object !== undefined && !isManaged(object)) {
      return problem(
        `${object.source} ${key}`,
        'metadata.labels',
        'exists and was not made by Isthmus; it is left alone',
      )
    }
    if (object !== undefined && isSubset(manifest, object.raw)) return undefined
    const result = await this.#options.store.apply(manifest)
    if (!result.ok) return result.error
    if (result.value !== 'unchanged')
      this.#options.logger.info({ object: key, outcome: result.value }, 'made for its gateway')
    return undefined
  }
}

/** One object per name: where both kinds have one, the newer kind (Gateway) counts, as in the model. */
function servingObjects(store: ObjectStore): readonly (IngressGateway | Gateway)[] {
  const byName = new Map<string, IngressGateway | Gateway>()
  for (const object of [...store.list('Gateway'), ...store.list('IngressGateway')]) {
    const key = `${object.metadata.namespace}/${object.metadata.name}`
    if (object.spec.eastWest && !byName.has(key)) byName.set(key, object)
  }
  return [...byName.values()]
}
