import type { NamespaceName, Workspace, WorkspaceSetting } from '../objects/types.ts'
import { type Conditions, nameOf } from './conditions.ts'
import { byText } from './labels.ts'

/** Which Workspace a namespace of this cluster belongs to, and which setting is in force for a Workspace. */
export interface WorkspaceIndex {
  readonly workspaceOf: (namespace: string) => Workspace | undefined
  readonly settingOf: (workspace: Workspace) => WorkspaceSetting | undefined
  /** The setting of the first Workspace that has this namespace of any of these clusters. */
  readonly settingFor: (namespace: string, clusters: readonly string[]) => WorkspaceSetting | undefined
  /** Settings in force whose Workspace selects something here, in order of their names. */
  readonly settings: readonly WorkspaceSetting[]
}

/** `*​/ns`, `c1/ns`, `c1/*`, `c1/ns*`: whether it means this namespace of this cluster. */
function selectsNamespace(pattern: NamespaceName, cluster: string, namespace: string): boolean {
  if (pattern.cluster !== '*' && pattern.cluster !== cluster) return false
  if (!pattern.namespace.endsWith('*')) return pattern.namespace === namespace
  return namespace.startsWith(pattern.namespace.slice(0, -1))
}

/**
 * A namespace belongs to one Workspace, the first by name, and a Workspace has one setting, the first by name: every other
 * claim is a condition of whoever made it.
 */
export function indexWorkspaces(
  cluster: string,
  workspaces: readonly Workspace[],
  settings: readonly WorkspaceSetting[],
  namespaces: ReadonlySet<string>,
  conditions: Conditions,
): WorkspaceIndex {
  const ordered = workspaces.toSorted(
    (a, b) => byText(a.metadata.name, b.metadata.name) || byText(nameOf(a), nameOf(b)),
  )
  const owners = new Map<string, Workspace>()
  const here = new Set<Workspace>()
  for (const workspace of ordered) {
    conditions.holds(workspace, 'Accepted', 'Accepted', 'in force')
    const selected = [...namespaces].filter((namespace) =>
      workspace.spec.namespaces.some((pattern) => selectsNamespace(pattern, cluster, namespace)),
    )
    for (const namespace of selected.sort(byText)) {
      const other = owners.get(namespace)
      if (other === undefined) {
        owners.set(namespace, workspace)
        here.add(workspace)
      } else {
        const message = `spec.namespaceSelector.names: namespace "${namespace}" already belongs to ${nameOf(other)}`
        conditions.fails(workspace, 'ResolvedRefs', 'NamespaceConflict', message)
      }
    }
    if (selected.length > 0) continue
    const names = workspace.spec.namespaces.map((each) => `${each.cluster}/${each.namespace}`).join(', ')
    const message = `spec.namespaceSelector.names: ${names || 'an empty list'} selects no namespace of ${cluster}`
    conditions.fails(workspace, 'ResolvedRefs', 'NoMatchingNamespaces', message)
  }
  const inForce = settingsInForce(ordered, settings, conditions)
  return {
    workspaceOf: (namespace) => owners.get(namespace),
    settingOf: (workspace) => inForce.get(workspace),
    settingFor: (namespace, clusters) => {
      const workspace = ordered.find((each) =>
        each.spec.namespaces.some((pattern) =>
          clusters.some((id) => selectsNamespace(pattern, id, namespace)),
        ),
      )
      return workspace === undefined ? undefined : inForce.get(workspace)
    },
    settings: ordered.flatMap((workspace) => {
      const setting = here.has(workspace) ? inForce.get(workspace) : undefined
      return setting === undefined ? [] : [setting]
    }),
  }
}

function settingsInForce(
  workspaces: readonly Workspace[],
  settings: readonly WorkspaceSetting[],
  conditions: Conditions,
): ReadonlyMap<Workspace, WorkspaceSetting> {
  const byKey = new Map(
    workspaces.map((each) => [
      JSON.stringify([each.metadata.organization, each.metadata.tenant, each.metadata.name]),
      each,
    ]),
  )
  const inForce = new Map<Workspace, WorkspaceSetting>()
  for (const setting of settings.toSorted((a, b) => byText(nameOf(a), nameOf(b)))) {
    const { organization, tenant, workspace: name } = setting.metadata
    const workspace = byKey.get(JSON.stringify([organization, tenant, name]))
    if (workspace === undefined) {
      const message = `metadata.workspace: there is no Workspace "${name}" in organization "${organization}", tenant "${tenant}"`
      conditions.fails(setting, 'ResolvedRefs', 'NoWorkspace', message)
      continue
    }
    const other = inForce.get(workspace)
    if (other === undefined) {
      inForce.set(workspace, setting)
      conditions.holds(setting, 'Accepted', 'Accepted', `in force for ${nameOf(workspace)}`)
    } else {
      const message = `metadata.workspace: a Workspace has one setting, and ${nameOf(other)} is in force for "${name}"`
      conditions.fails(setting, 'Accepted', 'Conflicted', message)
    }
  }
  return inForce
}
