// What marks the objects that Isthmus writes, and where its ServiceEntries stand.

/** Objects that Isthmus made carry this label; without it an object is somebody else's and is never touched. */
export const MANAGED_BY = 'app.kubernetes.io/managed-by'
export const MANAGER = 'isthmus'

/** Where generated entries live, as in the reference product. */
export const ENTRY_NAMESPACE = 'xcp-multicluster'

/** Label of an endpoint (the reference product's): which cluster it leads to. */
export const CLUSTER_LABEL = 'xcp.tetrate.io/cluster'

/** Whether an object is a ServiceEntry that Isthmus wrote. */
export function isManagedEntry(metadata: {
  readonly namespace: string
  readonly labels: Readonly<Record<string, string>>
}): boolean {
  return metadata.namespace === ENTRY_NAMESPACE && metadata.labels[MANAGED_BY] === MANAGER
}
