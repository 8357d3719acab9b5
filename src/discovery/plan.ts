import { canonicalJson } from '../lib/canonical.ts'
import type { Problem } from '../lib/result.ts'
import { exportsFor } from '../model/export-of.ts'
import type { Exposure, Model, ModelCondition } from '../model/types.ts'
import type { EditedObject } from '../objects/overlay.ts'
import type { ClientStatus } from '../xds/server-stream.ts'
import { type Snapshot, shortType } from '../xds/types.ts'
import { isLetIn } from './topology.ts'

type Sign = 'added' | 'changed' | 'removed'

/** One thing that would be different, in words that name the object which decides. */
export interface PlannedChange {
  readonly change: Sign
  readonly subject: string
  readonly detail: string
}

/** What would be different if objects were applied or deleted: `POST /plan`. Nothing is. */
export interface Plan {
  readonly cluster: string
  readonly objects: readonly EditedObject[]
  /** Documents that would be refused. */
  readonly problems: readonly Problem[]
  /** By host: what this cluster exposes, how, and by which rule. */
  readonly exposed: readonly PlannedChange[]
  /** `caller → host` of other clusters into this one, and of this one into others. */
  readonly access: readonly PlannedChange[]
  /** By peer and host: what it is told. */
  readonly told: readonly PlannedChange[]
  /** AuthorizationPolicies, by gateway. */
  readonly policies: readonly PlannedChange[]
  /** Conditions that would begin not to hold (`added`), or hold again (`removed`). */
  readonly conditions: readonly PlannedChange[]
  /** To the clients that are connected now. */
  readonly pushes: {
    readonly clients: number
    readonly responses: number
    /** By short type: `Listener`, `Cluster`, … */
    readonly types: Readonly<
      Record<string, { readonly clients: number } & Readonly<Record<Sign, readonly string[]>>>
    >
  }
}

export interface PlanInputs {
  readonly before: Model
  readonly after: Model
  readonly edits: readonly EditedObject[]
  readonly problems: readonly Problem[]
  /** By view: what it serves, and what it would. */
  readonly views: ReadonlyMap<string, { readonly before: Snapshot; readonly after: Snapshot }>
  readonly clients: readonly ClientStatus[]
}

/** Pure. */
export function planOf({ before, after, edits, problems, views, clients }: PlanInputs): Plan {
  return {
    cluster: after.self.id,
    objects: edits,
    problems,
    exposed: compare(exposedOf(before), exposedOf(after), (host) => whyClosed(after, host)),
    // By which rule is told with what is exposed.
    access: compare(accessOf(before), accessOf(after), (key) => whyNot(after, key)).filter(
      ({ change }) => change !== 'changed',
    ),
    told: compare(toldOf(before), toldOf(after)),
    policies: compare(policiesOf(before), policiesOf(after)),
    conditions: compare(failingOf(before), failingOf(after)),
    pushes: pushesOf(views, clients),
  }
}

/** By subject: what is said of it. */
type Facts = ReadonlyMap<string, string>

function compare(before: Facts, after: Facts, gone?: (subject: string) => string): PlannedChange[] {
  const changes: PlannedChange[] = []
  for (const subject of [...new Set([...before.keys(), ...after.keys()])].sort()) {
    const [was, is] = [before.get(subject), after.get(subject)]
    if (was === is) continue
    if (is === undefined) changes.push({ change: 'removed', subject, detail: gone?.(subject) ?? was ?? '' })
    else changes.push({ change: was === undefined ? 'added' : 'changed', subject, detail: is })
  }
  return changes
}

function exposedOf(model: Model): Facts {
  const exposed = [...model.exposures.values()].filter(({ decision }) => decision.allowed)
  return new Map(exposed.map((exposure) => [exposure.service.host, described(exposure)]))
}

function described({ service, gateway, mode, decision }: Exposure): string {
  const ports = service.ports.map(({ number }) => number).join(',')
  return `port ${ports} at ${gateway ?? ''}, ${mode?.mode ?? ''}: ${decision.reason}`
}

const ARROW = ' → '

function accessOf(model: Model): Facts {
  const access = new Map<string, string>()
  for (const { service, decision } of model.exposures.values()) {
    if (!decision.allowed) continue
    for (const cluster of model.clusters.values()) {
      if (cluster.id === model.self.id || !isLetIn(model, cluster)) continue
      access.set(`${cluster.id}${ARROW}${service.host} in ${model.self.id}`, decision.reason)
    }
  }
  for (const { host, endpoints, source } of model.imports) {
    for (const id of new Set(endpoints.map(({ cluster }) => cluster))) {
      const cluster = model.clusters.get(id)
      if (cluster === undefined || !model.mayCall(model.self, cluster).allowed) continue
      access.set(`${model.self.id}${ARROW}${host} in ${id}`, source)
    }
  }
  return access
}

/** Why a caller has no access any more. */
function whyNot(model: Model, subject: string): string {
  const [caller = '', rest = ''] = subject.split(ARROW)
  const [host = '', serving = ''] = rest.split(' in ')
  const cluster = model.clusters.get(caller === model.self.id ? serving : caller)
  if (cluster === undefined) return `${caller === model.self.id ? serving : caller} is no cluster any more`
  if (caller === model.self.id) {
    const decision = model.mayCall(model.self, cluster)
    return decision.allowed ? `nothing here says that ${serving} has it` : decision.reason
  }
  const exposed = model.exposures.get(host)?.decision.allowed === true
  if (!exposed) return whyClosed(model, host)
  const admitted = model.admits(cluster)
  return admitted.allowed
    ? `its callers cannot be verified: no peer Secret or no CA of its own`
    : admitted.reason
}

function whyClosed(model: Model, host: string): string {
  return model.exposures.get(host)?.decision.reason ?? 'there is no such service any more'
}

function toldOf(model: Model): Facts {
  const told = new Map<string, string>()
  for (const { cluster } of model.peers) {
    const peer = model.clusters.get(cluster)
    if (peer === undefined) continue
    for (const { service, mode } of exportsFor(model, peer).services) {
      const ports = service.ports.map(({ number, protocol }) => `${number}/${protocol}`).join(',')
      told.set(`${cluster}: ${service.host}`, `port ${ports}, ${mode?.mode ?? ''}`)
    }
  }
  return told
}

function policiesOf(model: Model): Facts {
  const policies = new Map<string, string>()
  for (const [gateway, list] of model.authorization)
    for (const policy of list)
      policies.set(
        `${gateway}: AuthorizationPolicy/${policy.name}`,
        `${policy.action} ${canonicalJson(policy.rules)}`,
      )
  return policies
}

function failingOf(model: Model): Facts {
  const failing = model.conditions.filter(({ status }) => !status)
  const named = ({ object, type }: ModelCondition) => `${object} ${type}=False`
  return new Map(failing.map((condition) => [named(condition), `${condition.reason}: ${condition.message}`]))
}

function pushesOf(views: PlanInputs['views'], clients: readonly ClientStatus[]): Plan['pushes'] {
  const types: Record<string, { clients: number } & Record<Sign, string[]>> = {}
  const reached = new Set<ClientStatus>()
  let responses = 0
  for (const [view, { before, after }] of views) {
    const watching = clients.filter((client) => client.view === view)
    for (const typeUrl of new Set([...before.keys(), ...after.keys()])) {
      const difference = differenceOf(before.get(typeUrl), after.get(typeUrl))
      const asking = watching.filter((client) => Object.hasOwn(client.types, typeUrl))
      if (asking.length === 0 || Object.values(difference).every((names) => names.length === 0)) continue
      responses += asking.length
      for (const client of asking) reached.add(client)
      const name = shortType(typeUrl)
      const known = types[name] ?? { clients: 0, added: [], changed: [], removed: [] }
      types[name] = {
        clients: known.clients + asking.length,
        added: merged(known.added, difference.added),
        changed: merged(known.changed, difference.changed),
        removed: merged(known.removed, difference.removed),
      }
    }
  }
  return { clients: reached.size, responses, types }
}

type Resources = Snapshot extends ReadonlyMap<string, infer R> ? R : never

function differenceOf(before: Resources | undefined, after: Resources | undefined): Record<Sign, string[]> {
  const [was, is] = [before ?? new Map(), after ?? new Map()] as [Resources, Resources]
  return {
    added: [...is.keys()].filter((name) => !was.has(name)),
    changed: [...is]
      .filter(([name, { version }]) => was.has(name) && was.get(name)?.version !== version)
      .map(([name]) => name),
    removed: [...was.keys()].filter((name) => !is.has(name)),
  }
}

const merged = (a: readonly string[], b: readonly string[]): string[] => [...new Set([...a, ...b])].sort()
