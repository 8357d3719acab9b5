import type { EastWestGatewaySetting, WorkspaceSetting } from '../objects/types.ts'
import type { Conditions } from './conditions.ts'
import { hasAddress } from './consumer-address.ts'
import { FIELD, noGateway } from './exposure.ts'
import type { GatewaySet } from './gateways.ts'
import { formatLabels, matchesLabels } from './labels.ts'
import type { ModelService } from './types.ts'
import type { WorkspaceIndex } from './workspaces.ts'

/** Says of each setting in force whether what it refers to is there: gateways, their addresses, services. */
export function reportSettings(
  services: readonly ModelService[],
  workspaces: WorkspaceIndex,
  gateways: GatewaySet,
  conditions: Conditions,
): void {
  const servicesOf = Map.groupBy(services, ({ namespace }) => {
    const workspace = workspaces.workspaceOf(namespace)
    return workspace === undefined ? undefined : workspaces.settingOf(workspace)
  })
  for (const setting of workspaces.settings) {
    const mine = servicesOf.get(setting) ?? []
    for (const [i, item] of setting.spec.defaultEastWestGatewaySettings.entries()) {
      const where = `${FIELD}[${i}]`
      reportGateways(setting, item, where, gateways, conditions)
      for (const [j, { serviceLabels }] of item.exposedServices.entries()) {
        if (mine.some((service) => matchesLabels(serviceLabels, service.labels))) continue
        const message = `${where}.exposedServices[${j}].serviceLabels: ${formatLabels(serviceLabels)} matches no Service of the workspace`
        conditions.fails(setting, 'ResolvedRefs', 'NoMatchingServices', message)
      }
    }
    conditions.holds(setting, 'ResolvedRefs', 'ResolvedRefs', 'gateways and services found')
    conditions.holds(setting, 'Programmed', 'Programmed', 'its services are exposed')
  }
}

function reportGateways(
  setting: WorkspaceSetting,
  item: EastWestGatewaySetting,
  where: string,
  gateways: GatewaySet,
  conditions: Conditions,
): void {
  const [gateway, ...others] = gateways.select(item.workloadSelector)
  if (gateway === undefined) {
    const message = `${where}.${noGateway(item)}; it exposes nothing`
    conditions.fails(setting, 'ResolvedRefs', 'NoMatchingPods', message)
    conditions.fails(setting, 'Programmed', 'NoMatchingPods', message)
    return
  }
  if (others.length > 0) {
    const list = others.map((other) => other.name).join(', ')
    const message = `${where}.workloadSelector: expected one gateway, found ${others.length + 1}: ${gateway.name} serves, ${list} not`
    conditions.fails(setting, 'ResolvedRefs', 'SeveralGateways', message)
  }
  if (hasAddress(gateway)) return
  const { code, reason } = gateways.addressOutcome(gateway)
  const reasonCode = code === 'NoService' ? 'AwaitingAddress' : code
  conditions.fails(
    setting,
    'Programmed',
    reasonCode,
    `gateway ${gateway.namespace}/${gateway.name}: ${reason}`,
  )
}
