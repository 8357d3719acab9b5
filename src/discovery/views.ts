import { randomUUID } from 'node:crypto'
import type { Logger } from '../lib/log.ts'
import { exportsFor } from '../model/export-of.ts'
import type { ClusterInfo, Model } from '../model/types.ts'
import { parseBindRange } from '../resources/bind-address.ts'
import { encodeDestinationRule } from '../resources/destination-rule.ts'
import type { DiscoveryDoor } from '../resources/discovery-route.ts'
import type { DnsOptions } from '../resources/dns-filter.ts'
import type { DomainBundle } from '../resources/envoy.ts'
import { gatewayResources } from '../resources/gateway-resources.ts'
import { grpcResources } from '../resources/grpc-resources.ts'
import { istioResources, subsetRule } from '../resources/istio-config.ts'
import { encodeEntry } from '../resources/service-entry.ts'
import { exportEntries } from '../resources/service-entry-export.ts'
import { entryOf } from '../resources/service-entry-manifest.ts'
import { sidecarResources } from '../resources/sidecar-resources.ts'
import { SnapshotBuilder } from '../resources/snapshot-builder.ts'
import { type Changes, SnapshotCache, type ViewSource } from '../xds/snapshot-cache.ts'
import { type Snapshot, TYPE } from '../xds/types.ts'
import { type ExportsState, exportsIdentifier } from './exports-identifier.ts'

interface ProxyView {
  readonly secrets: boolean
  /** Of an Envoy, as in `tlsContext`; empty for our own proxies. */
  readonly credentialFile: string
}

/** What tells views apart: clients with equal keys share one computation and one encoding. */
export type ViewKey =
  | (ProxyView & {
      readonly kind: 'gateway'
      /** `namespace/name`. */
      readonly gateway: string
      readonly bind: { readonly address: string; readonly port: number }
      /** Whether it knows our principal for a caller's issuer. */
      readonly issuers: boolean
    })
  | (ProxyView & {
      readonly kind: 'sidecar'
      readonly bind: string
      readonly hostNames: boolean
      /** Whether HTTP is served as such, and DNS in its own proxy: an Envoy's. */
      readonly http: boolean
      readonly dns: DnsOptions | undefined
    })
  /** Of the cluster's gRPC clients, all of them. */
  | { readonly kind: 'grpc' }
  | { readonly kind: 'exports'; readonly cluster: string }
  /** Of an Istio control plane of this cluster. */
  | { readonly kind: 'istio' }

/** What views are computed from. */
export interface ViewInputs {
  readonly model: Model
  /** The same with gateways' host names resolved, for clients that do not do that themselves; absent: there is none. */
  readonly resolved?: Model
  readonly bundles: readonly DomainBundle[]
  /** By peer, where clusters share a trust domain or a CA: the bundle with the CAs that are its alone. */
  readonly clusterBundles: ReadonlyMap<string, DomainBundle>
  /** Whether what the model lacks was deleted, and not lost. */
  readonly complete: boolean
  /** Where gateways find this discovery server. */
  readonly door?: DiscoveryDoor | undefined
}

/** The views somebody watches. Each is computed when its first client comes and dropped when its last one leaves. */
export class Views {
  readonly #live = new Map<string, LiveView>()
  readonly #logger: Logger
  #inputs: ViewInputs

  constructor(inputs: ViewInputs, logger: Logger) {
    this.#inputs = inputs
    this.#logger = logger
  }

  get size(): number {
    return this.#live.size
  }

  /** Whether anybody watches the view of that name. */
  watched(name: string): boolean {
    return this.#live.get(name)?.watched === true
  }

  /** What all live views have cost since the first client of each: resources encoded, values derived for them. */
  get counters(): { readonly encoded: number; readonly derived: number } {
    const all = [...this.#live.values()].map((view) => view.counters)
    return {
      encoded: all.reduce((sum, { encoded }) => sum + encoded, 0),
      derived: all.reduce((sum, { derived }) => sum + derived, 0),
    }
  }

  /** The view of that key, the same object as long as anybody watches it. */
  source(key: ViewKey): ViewSource {
    const name = viewName(key)
    const known = this.#live.get(name)
    if (known !== undefined) return known
    const view: LiveView = new LiveView({
      scope: name,
      compute: (previous) => compute(key, this.#inputs, previous),
      identifier: (state) => identifier(key, this.#inputs, state),
      onUsed: () => this.#live.set(name, view),
      onUnused: () => this.#live.delete(name),
    })
    this.#live.set(name, view)
    return view
  }

  /** Computes every view anew. One that cannot be computed (a bug) keeps its last good content. */
  refresh(inputs: ViewInputs): void {
    this.#inputs = inputs
    for (const [name, view] of this.#live) {
      try {
        if (view.watched) view.refresh()
        else this.#live.delete(name)
      } catch (error) {
        this.#logger.error(
          { err: error, view: name },
          'BUG: a view could not be computed; its last content stays',
        )
      }
    }
  }

  /** By key: what is served now, and what would be with these inputs. Nothing is served or kept of that. */
  preview(
    inputs: Required<Omit<ViewInputs, 'complete' | 'door'>>,
  ): ReadonlyMap<string, { readonly before: Snapshot; readonly after: Snapshot }> {
    const live = [...this.#live].filter(([, view]) => view.watched)
    return new Map(
      live.map(([name, view]) => {
        const after = compute(
          JSON.parse(name) as ViewKey,
          { ...this.#inputs, ...inputs },
          undefined,
        ).snapshot()
        return [name, { before: view.current(), after }]
      }),
    )
  }

  /** By key: what is served now. */
  dump(): ReadonlyMap<string, Snapshot> {
    return new Map([...this.#live].map(([name, view]) => [name, view.current()]))
  }
}

/** A view's name, by which it is found again: everything that tells it from others. */
export function viewName(key: ViewKey): string {
  return JSON.stringify(key)
}

/** What `viewName` was made of; undefined for ''. */
export function viewKey(name: string): ViewKey | undefined {
  return name === '' ? undefined : (JSON.parse(name) as ViewKey)
}

/** What sort of view has that name; undefined for ''. */
export function viewKind(name: string): ViewKey['kind'] | undefined {
  return viewKey(name)?.kind
}

interface LiveViewOptions {
  readonly scope: string
  readonly compute: (previous: SnapshotBuilder | undefined) => SnapshotBuilder
  readonly identifier: (state: Omit<ExportsState, 'complete'>) => string
  readonly onUsed: () => void
  readonly onUnused: () => void
}

class LiveView implements ViewSource {
  readonly #options: LiveViewOptions
  readonly #cache = new SnapshotCache()
  #builder: SnapshotBuilder | undefined
  #identified = ''
  #watchers = 0
  readonly #epoch = randomUUID()
  #generation = 0
  #exported: ReadonlyMap<string, unknown> | undefined

  constructor(options: LiveViewOptions) {
    this.#options = options
    this.refresh()
  }

  get watched(): boolean {
    return this.#watchers > 0
  }

  get scope(): string {
    return this.#options.scope
  }

  get counters(): SnapshotBuilder['counters'] {
    return this.#builder?.counters ?? { encoded: 0, derived: 0 }
  }

  current(): Snapshot {
    return this.#cache.current()
  }

  identifier(): string {
    return this.#options.identifier({
      epoch: this.#epoch,
      generation: this.#generation,
      entries: this.#exported?.size ?? 0,
    })
  }

  refresh(): void {
    this.#builder = this.#options.compute(this.#builder)
    this.#cache.set(this.#builder.snapshot())
    const exported = this.#cache.current().get(TYPE.serviceEntry)
    if (exported !== this.#exported) this.#generation++
    this.#exported = exported
    // The verdict of the reachability travels in it, and may change where nothing is exposed and so no resource does.
    const identified = this.identifier()
    if (this.#identified !== identified) this.#cache.announce(TYPE.serviceEntry)
    this.#identified = identified
  }

  watch(callback: (changes: Changes) => void): () => void {
    const stop = this.#cache.watch(callback)
    if (this.#watchers++ === 0) this.#options.onUsed()
    let ended = false
    return () => {
      if (ended) return
      ended = true
      stop()
      if (--this.#watchers === 0) this.#options.onUnused()
    }
  }
}

function compute(
  key: ViewKey,
  { model, resolved = model, bundles, clusterBundles, door }: ViewInputs,
  previous: SnapshotBuilder | undefined,
): SnapshotBuilder {
  if (key.kind === 'istio') return istioResources(model, entryOf, previous)
  if (key.kind === 'exports') return exportsView(model, model.clusters.get(key.cluster), previous)
  if (key.kind === 'grpc') return grpcResources(resolved, previous)
  if (key.kind === 'gateway') {
    const gateway = model.gateways.find((each) => `${each.namespace}/${each.name}` === key.gateway)
    return gatewayResources(model, gateway, { ...key, bundles, door }, previous)
  }
  const bind = parseBindRange(key.bind)
  if (!bind.ok) throw new Error(`bind range was not checked: ${bind.error}`)
  // An Envoy takes whatever chain leads to the root: it gains nothing by them.
  const ours = key.secrets && key.hostNames ? clusterBundles : undefined
  const of = key.hostNames ? model : resolved
  return sidecarResources(of, { ...key, bind: bind.value, bundles, clusterBundles: ours }, previous)
}

function exportsView(
  model: Model,
  peer: ClusterInfo | undefined,
  previous: SnapshotBuilder | undefined,
): SnapshotBuilder {
  const builder = new SnapshotBuilder(previous)
  builder.type(TYPE.serviceEntry)
  builder.type(TYPE.destinationRule)
  if (peer === undefined) return builder
  const { services, gateways } = exportsFor(model, peer)
  for (const entry of exportEntries(services, gateways, model.self, builder.memo('entries'))) {
    const name = `${entry.namespace}/${entry.name}`
    builder.group(name, { entry }, () => {
      builder.add(TYPE.serviceEntry, name, entry, () => encodeEntry(entry))
      const rule = subsetRule(entry)
      if (rule === undefined) return
      const named = `${rule.namespace}/${rule.name}`
      builder.add(TYPE.destinationRule, named, rule, () => encodeDestinationRule(rule))
    })
  }
  return builder
}

function identifier(
  key: ViewKey,
  { model, complete }: ViewInputs,
  state: Omit<ExportsState, 'complete'>,
): string {
  if (key.kind !== 'exports') return JSON.stringify({ cluster: model.self.id })
  return exportsIdentifier(model, key.cluster, { ...state, complete })
}
