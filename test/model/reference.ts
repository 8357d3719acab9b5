// Exposure and reachability once more, slowly and straight from the rules' own text, for property tests. It shares no code
// with src/model and looks at the plain documents, not at parsed objects.

export interface World {
  readonly cluster: string
  readonly services: readonly { name: string; namespace: string; labels: Readonly<Record<string, string>> }[]
  readonly workspaces: readonly { name: string; names: readonly string[] }[]
  readonly settings: readonly {
    name: string
    workspace: string
    items: readonly {
      gateway: string
      labels: Readonly<Record<string, string>>
      exposed: readonly Readonly<Record<string, string>>[]
    }[]
  }[]
  readonly gateways: readonly { name: string; namespace: string }[]
}

/** `namespace/name` of the gateway that exposes the service and the rule, or undefined. */
export function slowExposure(
  world: World,
  service: World['services'][number],
): { gateway: string; rule: string } | undefined {
  let workspace: World['workspaces'][number] | undefined
  for (const candidate of world.workspaces) {
    if (!candidate.names.some((name) => globMatches(name, `${world.cluster}/${service.namespace}`))) continue
    if (workspace === undefined || candidate.name < workspace.name) workspace = candidate
  }
  if (workspace === undefined) return undefined
  let setting: World['settings'][number] | undefined
  for (const candidate of world.settings) {
    if (candidate.workspace !== workspace.name) continue
    if (setting === undefined || candidate.name < setting.name) setting = candidate
  }
  if (setting === undefined) return undefined
  for (let i = 0; i < setting.items.length; i++) {
    const item = setting.items[i]
    if (item === undefined) continue
    let selected = item.exposed.length === 0
    for (const wanted of item.exposed) {
      let all = true
      for (const key of Object.keys(wanted)) if (service.labels[key] !== wanted[key]) all = false
      if (all) selected = true
    }
    if (!selected) continue
    // The first item decides, with or without a gateway.
    const names = world.gateways
      .filter((gateway) => gateway.namespace === item.gateway)
      .filter((gateway) =>
        Object.keys(item.labels).every((key) => key === 'app' && item.labels[key] === gateway.name),
      )
      .map((gateway) => gateway.name)
      .sort()
    if (names[0] === undefined) return undefined
    return { gateway: `${item.gateway}/${names[0]}`, rule: `${workspace.name}/${setting.name}[${i}]` }
  }
  return undefined
}

/** `*` in the cluster part stands for any cluster; at the end of the namespace part for any rest. */
function globMatches(pattern: string, text: string): boolean {
  const escaped = pattern.replace(/[.+?^${}()|[\]\\]/g, '\\$&').replaceAll('*', '[^/]*')
  return new RegExp(`^${escaped}$`).test(text)
}

/** Directed; the same network always; `rules` undefined: nothing else. */
export function slowReachable(
  rules: Readonly<Record<string, string>> | undefined,
  from: string,
  to: string,
): boolean {
  if (from === to) return true
  for (const [source, targets] of Object.entries(rules ?? {})) {
    if (source !== from) continue
    for (const target of targets.split(',')) if (target.trim() === to && to !== '') return true
  }
  return false
}
