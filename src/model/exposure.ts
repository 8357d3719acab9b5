// Which services of this cluster other clusters may call, by which rule and through which gateway, and why not. The reference
// product's rules: settings are an ordered list and the first item that selects a service decides it alone; no
// `exposedServices` means all of them; items are OR-ed, the labels inside one AND-ed.

import { PORTS_ANNOTATION } from '../objects/port-list.ts'
import {
  type EastWestGatewaySetting,
  MODE_ANNOTATION,
  type Workspace,
  type WorkspaceSetting,
} from '../objects/types.ts'
import { type Conditions, nameOf } from './conditions.ts'
import { withExposedPorts } from './exposed-ports.ts'
import type { GatewaySet } from './gateways.ts'
import { serviceObject } from './headless.ts'
import { isClustersOwn } from './host.ts'
import { formatLabels, matchesLabels } from './labels.ts'
import { chooseMode } from './mode.ts'
import { Stage } from './stage.ts'
import type { Exposure, ModelGateway, ModelService } from './types.ts'
import type { WorkspaceIndex } from './workspaces.ts'

/** The ordered list of a WorkspaceSetting. */
export const FIELD = 'spec.defaultEastWestGatewaySettings'

interface ExposureInputs {
  readonly cluster: string
  readonly service: ModelService
  readonly workspace: Workspace | undefined
  readonly setting: WorkspaceSetting | undefined
  /** `namespace/name` of the gateway that serves each item of the setting, undefined where there is none. */
  readonly serving: readonly (string | undefined)[]
  /** The gateway whose own Service it is. */
  readonly gatewayOf: string | undefined
  /** Clusters that gateways keep out by reachability. */
  readonly keptOut: readonly string[]
}

/** Runs for a service where it, or what decides about it, is another than at the last model. */
export class ExposureStages {
  readonly services = new Stage(exposureOf, { shares: true })
}

/** By host; every service is there, exposed or not. `keptOut`: clusters that gateways keep out by reachability. */
export function collectExposures(
  { cluster, keptOut }: Pick<ExposureInputs, 'cluster' | 'keptOut'>,
  services: readonly ModelService[],
  workspaces: WorkspaceIndex,
  gateways: GatewaySet,
  stages: ExposureStages,
  conditions: Conditions,
): ReadonlyMap<string, Exposure> {
  const nameOfGateway = (gateway: ModelGateway | undefined): string | undefined =>
    gateway && `${gateway.namespace}/${gateway.name}`
  // One look for the gateway of each item, however many services the item exposes.
  const serving = new Map<WorkspaceSetting, readonly (string | undefined)[]>()
  for (const setting of workspaces.settings) {
    const items = setting.spec.defaultEastWestGatewaySettings
    serving.set(
      setting,
      items.map((item) => nameOfGateway(gateways.select(item.workloadSelector)[0])),
    )
  }
  const exposures = new Map<string, Exposure>()
  for (const service of services) {
    const workspace = workspaces.workspaceOf(service.namespace)
    const setting = workspace && workspaces.settingOf(workspace)
    const inputs: ExposureInputs = {
      cluster,
      service,
      workspace,
      setting,
      serving: (setting && serving.get(setting)) ?? [],
      gatewayOf: nameOfGateway(gateways.ownService(service.namespace, service.name)),
      keptOut,
    }
    exposures.set(service.host, stages.services.get(inputs, conditions, service.host))
  }
  stages.services.sweep()
  return exposures
}

function exposureOf(inputs: ExposureInputs): Exposure {
  const { cluster, service, workspace, setting, serving, gatewayOf, keptOut } = inputs
  const closed = (reason: string, fix: string, rule = ''): Exposure => ({
    service,
    decision: { allowed: false, reason },
    gateway: undefined,
    rule,
    fix,
  })
  const { namespace, labels } = service
  if (isClustersOwn(service))
    return closed("it belongs to the cluster's own workings, which stay at home", '')
  if (workspace === undefined) {
    const reason = `no Workspace selects namespace ${cluster}/${namespace}`
    return closed(
      reason,
      `Workspace spec.namespaceSelector.names: add "${cluster}/${namespace}" or "*/${namespace}"`,
    )
  }
  if (gatewayOf !== undefined)
    return closed(`it is the Service of gateway ${gatewayOf}, which does not expose itself`, '')
  if (setting === undefined) {
    const fix = `apply a WorkspaceSetting with metadata.workspace: ${workspace.metadata.name} and ${FIELD}`
    return closed(`${nameOf(workspace)} has no WorkspaceSetting`, fix)
  }
  if (service.ports.length === 0) {
    return closed('it has no TCP port', `${serviceObject(service)} spec.ports: add a port with protocol TCP`)
  }
  const items = setting.spec.defaultEastWestGatewaySettings
  const index = items.findIndex((item) => selectsService(item, service))
  const item = items[index]
  if (item === undefined) {
    const where = `${nameOf(setting)} ${FIELD}`
    if (items.length === 0) return closed(`${where} is empty`, `${where}: add an item`)
    const reason = `${where}: no item's exposedServices match its labels ${formatLabels(labels)}`
    return closed(reason, `${serviceObject(service)} metadata.labels, or ${where}[].exposedServices`)
  }
  const rule = `${workspace.metadata.name}/${setting.metadata.name}[${index}]`
  const where = `${nameOf(setting)} ${FIELD}[${index}]`
  const gateway = serving[index]
  if (gateway === undefined) {
    // The first item that selects a service decides it: a later one is not tried.
    const fix = `${where}.workloadSelector, or apply the gateway it is meant to select`
    return closed(`${where} selects it, but ${noGateway(item)}`, fix, rule)
  }
  const offered = withExposedPorts(service, item.ports)
  if (offered.ports.length === 0) {
    const fix = `${serviceObject(service)} metadata.annotations["${PORTS_ANNOTATION}"], or the one of ${where}.configGenerationMetadata`
    return closed(`${where} selects it, but none of its ports is among those to be exposed`, fix, rule)
  }
  const decision = { allowed: true, reason: `${where}${matchedLabels(item, service)}` }
  const source = `${where}.configGenerationMetadata.annotations["${MODE_ANNOTATION}"]`
  const mode = chooseMode(offered, { mode: item.mode, source }, keptOut)
  return { service: offered, decision, gateway, rule, mode }
}

function selectsService(item: EastWestGatewaySetting, service: ModelService): boolean {
  return (
    item.exposedServices.length === 0 ||
    item.exposedServices.some((each) => matchesLabels(each.serviceLabels, service.labels))
  )
}

function matchedLabels(item: EastWestGatewaySetting, service: ModelService): string {
  const i = item.exposedServices.findIndex((each) => matchesLabels(each.serviceLabels, service.labels))
  const labels = item.exposedServices[i]?.serviceLabels
  return labels === undefined
    ? ' exposes every service of the workspace'
    : `.exposedServices[${i}] matches ${formatLabels(labels)}`
}

export const noGateway = ({ workloadSelector: { namespace, labels } }: EastWestGatewaySetting): string =>
  `workloadSelector ${formatLabels(labels)} matches no gateway pods in namespace "${namespace}"`
