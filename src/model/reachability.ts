import { type Cluster, type OrganizationSetting, REACHABILITY_ANNOTATION } from '../objects/types.ts'
import { type Conditions, nameOf } from './conditions.ts'
import { byText } from './labels.ts'
import { mayCall as decideCall, type NetworkTransition, stepTransition } from './network-transition.ts'
import type { ClusterInfo, Decision, Model } from './types.ts'

/** `network "vpc-1"`, or `the unnamed network`. */
const called = (network: string): string => (network === '' ? 'the unnamed network' : `network "${network}"`)

/** Which OrganizationSetting counts: the first by name. Conditions for the others, and for networks that nobody has. */
export function selectOrganizationSetting(
  settings: readonly OrganizationSetting[],
  clusters: readonly Cluster[],
  conditions: Conditions,
): OrganizationSetting | undefined {
  const [chosen, ...others] = [...settings].sort((a, b) => byText(nameOf(a), nameOf(b)))
  for (const other of others) {
    const message = `there is one OrganizationSetting per cluster: ${nameOf(chosen as OrganizationSetting)} is in force`
    conditions.fails(other, 'Accepted', 'Conflicted', message)
  }
  if (chosen === undefined) return undefined
  conditions.holds(chosen, 'Accepted', 'Accepted', 'in force')
  const networks = new Set(clusters.map((cluster) => cluster.spec.network))
  for (const [from, targets] of chosen.spec.networkReachability ?? []) {
    for (const network of [from, ...targets]) {
      if (networks.has(network)) continue
      const message = `spec.networkSettings.networkReachability: no Cluster has ${called(network)}`
      conditions.fails(chosen, 'ResolvedRefs', 'UnknownNetwork', message)
    }
  }
  return chosen
}

/**
 * Who may call whom, by networks and by clusters, and whom gateways let in. `previous` is what the last model remembered, `nowMs` the
 * time; without them every step of a change counts by itself.
 */
export function networkRelation(
  setting: OrganizationSetting | undefined,
  inputs: {
    readonly self: ClusterInfo
    readonly clusters: ReadonlyMap<string, ClusterInfo>
    readonly previous?: NetworkTransition | undefined
    readonly nowMs?: number
  },
): Pick<Model, 'reachable' | 'mayCall' | 'admits' | 'transition'> {
  const { self, clusters, previous, nowMs = 0 } = inputs
  const reachable = reachability(setting)
  const rules = setting?.spec.networkReachability
  const transition = stepTransition(previous, { self, clusters, rules, reachable }, nowMs)
  const mayCall: Model['mayCall'] = (from, to) => decideCall(transition, reachable, from, to)
  const advertised = setting?.spec.reachability === 'advertise' ? nameOf(setting) : undefined
  return {
    reachable,
    mayCall,
    transition,
    admits: (from) => {
      const decision = mayCall(from, self)
      if (decision.allowed || advertised === undefined) return decision
      const field = `${advertised} metadata.annotations["${REACHABILITY_ANNOTATION}"]`
      return {
        allowed: true,
        reason: `${field} is "advertise": whoever is federated is let in, told of it or not`,
      }
    },
  }
}

/**
 * May a client on network `from` call services on network `to`? The same network always; another one only where it is
 * listed, and in that direction only. All clusters without a network name are on one network.
 */
export function reachability(
  setting: OrganizationSetting | undefined,
): (from: string, to: string) => Decision {
  const listed = setting?.spec.networkReachability
  const field = 'spec.networkSettings.networkReachability'
  return (from, to) => {
    if (from === to) return { allowed: true, reason: `${called(from)} is the same on both sides` }
    const route = `${called(from)} to ${called(to)}`
    if (setting === undefined)
      return { allowed: false, reason: `no OrganizationSetting allows ${route} (${field})` }
    const where = `${nameOf(setting)} ${field}`
    if (listed === undefined)
      return { allowed: false, reason: `${where} is not set: nothing allows ${route}` }
    const targets = listed.get(from)
    if (targets?.includes(to) === true) return { allowed: true, reason: `${where}["${from}"] lists "${to}"` }
    const reason =
      targets === undefined
        ? `${where} has no entry for ${called(from)}: nothing allows ${route}`
        : `${where}["${from}"] is "${targets.join(',')}", without "${to}"`
    return { allowed: false, reason }
  }
}
