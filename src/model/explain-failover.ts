// Where the calls of this cluster to one host go first, where next, and by which object's word: the same decision as the sidecars' views.
import { own } from '../lib/own.ts'
import { describeRule, failoverLabels, placeOf, priorityOf } from './failover.ts'
import type { ImportedService, Model, ModelService } from './types.ts'

/** What one cluster has at one step of the order. */
export interface FailoverMember {
  readonly cluster: string
  readonly region: string
  /** Of its own pods, or of what stands behind its gateways. */
  readonly ready: number
  /** Percent; 100 is usual, 0 is none at all. */
  readonly weight: number
}

export interface FailoverFacts {
  /** The object and field that the order comes from, or `the default`. */
  readonly source: string
  /** The rule in plain words. */
  readonly rule: string
  /** First choice first. */
  readonly levels: readonly (readonly FailoverMember[])[]
  /** Index of the level that calls go to now; -1: nobody is ready. */
  readonly serving: number
}

/** Undefined where the host has no such port, here or elsewhere. */
export function failoverFacts(
  model: Model,
  service: ModelService | undefined,
  imported: ImportedService | undefined,
  port: number,
): FailoverFacts | undefined {
  const pods = service?.ports.find(({ number }) => number === port)?.endpoints
  const name = imported?.ports.find(({ number }) => number === port)?.name
  if (pods === undefined && name === undefined) return undefined
  const remotes =
    name === undefined
      ? []
      : (imported?.endpoints ?? []).filter((each) => own(each.ports, name) !== undefined)
  const { self } = model
  const clusters = [self.id, ...new Set(remotes.map(({ cluster }) => cluster))]
  const rule = model.failover(service?.namespace ?? imported?.namespace ?? '', clusters)
  const caller = placeOf(self, model.ownLabels)
  const levels = new Map<number, Map<string, FailoverMember>>()
  const add = (priority: number, cluster: string, region: string, ready: number) => {
    const level = levels.get(priority) ?? new Map<string, FailoverMember>()
    levels.set(priority, level)
    const known = level.get(cluster)
    const weight = model.clusters.get(cluster)?.weight ?? 100
    // Several addresses of one cluster lead to the same endpoints; its own pods are one each.
    const all = cluster === self.id ? (known?.ready ?? 0) + ready : Math.max(known?.ready ?? 0, ready)
    level.set(cluster, { cluster, region, ready: all, weight })
  }
  for (const { zone, labels, ready } of pods ?? []) {
    const place = {
      ...caller,
      zone: zone === '' ? caller.zone : zone,
      labels: { ...failoverLabels(service?.labels), ...labels },
    }
    add(priorityOf(rule, caller, place), self.id, self.locality.region, ready ? 1 : 0)
  }
  for (const { cluster, network, locality, weight, notReady, failoverLabels: labels = {} } of remotes) {
    const [region = '', zone = ''] = locality.split('/')
    const priority = priorityOf(rule, caller, { cluster, network, region, zone, labels })
    add(priority, cluster, region, notReady?.includes(port) === true ? 0 : weight)
  }
  const ordered = [...levels].sort(([a], [b]) => a - b).map(([, members]) => [...members.values()])
  return {
    source: rule.source,
    rule: describeRule(rule, self.locality.region),
    levels: ordered,
    serving: ordered.findIndex((members) => members.some(({ ready, weight }) => ready > 0 && weight > 0)),
  }
}

/** `the own cluster first, … (the default): 1. cluster-2 (2 ready), 2. cluster-1 in eu-west-2 (3 ready); calls go to cluster-2`. */
export function describeFailover({ source, rule, levels, serving }: FailoverFacts): string {
  const list = levels.map((members, i) => `${i + 1}. ${members.map(describeMember).join(' and ')}`)
  const now = levels[serving]
  const going =
    now === undefined
      ? 'nobody is ready'
      : `calls go to ${now
          .filter(({ ready, weight }) => ready > 0 && weight > 0)
          .map(named)
          .join(' and ')}`
  return `${rule} (${source}): ${list.join(', ')}; ${going}`
}

const named = ({ cluster }: FailoverMember): string =>
  cluster === '' ? 'an endpoint of no cluster' : cluster

function describeMember(member: FailoverMember): string {
  const { region, ready, weight } = member
  const place = region === '' ? '' : ` in ${region}`
  return `${named(member)}${place} (${ready} ready${weight === 100 ? '' : `, weight ${weight} %`})`
}
