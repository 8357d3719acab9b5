// What a model keeps for the next one: the outcome of each step, by what it was made from. A step takes all that it reads as
// inputs, so that none can be forgotten; what a step makes of one service, slice, entry or host, it keeps by that.
import type { TrustBundle } from '../identity/trust-bundle.ts'
import type {
  Cluster,
  DestinationRule,
  EndpointSlice,
  ObjectOf,
  OrganizationSetting,
  Pod,
  Secret,
  Service,
  ServiceEntry,
  Workspace,
  WorkspaceSetting,
} from '../objects/types.ts'
import { collectClusters, readPeers } from './clusters.ts'
import { collectExposures, ExposureStages } from './exposure.ts'
import { failoverRules } from './failover.ts'
import { collectGateways, type GatewayInputs, type GatewaySet } from './gateways.ts'
import { collectImports, ImportStages } from './imports.ts'
import { collectOrigins, reportOrigins } from './origins.ts'
import { PodIndex } from './pod-index.ts'
import { collectServices, ServiceStages } from './services.ts'
import { reportSettings } from './setting-status.ts'
import { Stage } from './stage.ts'
import type { ClusterInfo, ModelService, Peer } from './types.ts'
import { indexWorkspaces, type WorkspaceIndex } from './workspaces.ts'

export class ModelStages {
  readonly #services = new ServiceStages()
  readonly #exposures = new ExposureStages()
  readonly #imports = new ImportStages()

  readonly peers = new Stage(
    ({ secrets, cluster }: { secrets: readonly Secret[]; cluster: string }, said) =>
      readPeers(secrets, cluster, said),
    { shares: true },
  )

  readonly clusters = new Stage(
    (
      inputs: {
        cluster: string
        trustDomain: string
        objects: readonly Cluster[]
        peers: readonly Peer[]
      },
      said,
    ) => collectClusters(inputs, inputs.objects, inputs.peers, said),
    { shares: true },
  )

  readonly origins = new Stage(
    (
      inputs: {
        clusters: ReadonlyMap<string, ClusterInfo>
        objects: ReadonlyMap<string, Cluster>
        /** Of the bundles, in their order. */
        ids: readonly string[]
        bundles: readonly TrustBundle[]
      },
      said,
    ) => {
      const bundles = new Map(inputs.ids.map((id, i) => [id, inputs.bundles[i] as TrustBundle]))
      const origins = collectOrigins(inputs.clusters, bundles)
      reportOrigins(origins, bundles, inputs.objects, said)
      return origins
    },
    { shares: true },
  )

  readonly pods = new Stage(({ pods }: { pods: readonly Pod[] }) => new PodIndex(pods))

  readonly services = new Stage(
    (
      inputs: {
        services: readonly Service[]
        slices: readonly EndpointSlice[]
        pods: PodIndex
        rules: readonly DestinationRule[]
      },
      said,
    ) => collectServices(inputs.services, inputs.slices, inputs.pods, inputs.rules, this.#services, said),
  )

  readonly namespaces = new Stage(
    (
      inputs: { objects: readonly ObjectOf['Namespace'][]; services: readonly ModelService[] },
      _,
      previous: ReadonlySet<string> | undefined,
    ): ReadonlySet<string> => {
      const found = new Set([
        ...inputs.objects.map(({ metadata }) => metadata.name),
        ...inputs.services.map(({ namespace }) => namespace),
      ])
      const isSame = previous?.size === found.size && [...found].every((name) => previous.has(name))
      return isSame ? previous : found
    },
  )

  readonly workspaces = new Stage(
    (
      inputs: {
        cluster: string
        workspaces: readonly Workspace[]
        settings: readonly WorkspaceSetting[]
        namespaces: ReadonlySet<string>
      },
      said,
    ) => indexWorkspaces(inputs.cluster, inputs.workspaces, inputs.settings, inputs.namespaces, said),
  )

  readonly failover = new Stage(
    (inputs: { workspaces: WorkspaceIndex; organization: OrganizationSetting | undefined }) =>
      failoverRules(inputs.workspaces, inputs.organization),
  )

  readonly gateways = new Stage((inputs: GatewayInputs, said, previous: GatewaySet | undefined) =>
    collectGateways(inputs, said, previous?.gateways),
  )

  readonly exposures = new Stage(
    (
      inputs: {
        cluster: string
        keptOut: readonly string[]
        services: readonly ModelService[]
        workspaces: WorkspaceIndex
        gateways: GatewaySet
      },
      said,
    ) => collectExposures(inputs, inputs.services, inputs.workspaces, inputs.gateways, this.#exposures, said),
  )

  readonly settings = new Stage(
    (inputs: { services: readonly ModelService[]; workspaces: WorkspaceIndex; gateways: GatewaySet }, said) =>
      reportSettings(inputs.services, inputs.workspaces, inputs.gateways, said),
  )

  readonly imports = new Stage(
    (inputs: { entries: readonly ServiceEntry[]; namespaces: ReadonlySet<string> }, said) =>
      collectImports(inputs.entries, inputs.namespaces, this.#imports, said),
  )

  /** How often something was derived for one service, slice, entry or host since the beginning. */
  get derived(): number {
    const { services, slices } = this.#services
    const { entries, hosts } = this.#imports
    return [services, slices, entries, hosts, this.#exposures.services].reduce(
      (sum, { runs }) => sum + runs,
      0,
    )
  }
}
