// Host names of Kubernetes services. The cluster domain is fixed: it is part of the name that clusters agree on.

const CLUSTER_DOMAIN = 'svc.cluster.local'

const CODE_0 = 48
const CODE_9 = 57
const CODE_A = 97
const CODE_Z = 122
const CODE_HYPHEN = 45

/** `productpage`, `bookinfo` → `productpage.bookinfo.svc.cluster.local`. */
export function serviceHost(name: string, namespace: string): string {
  return `${name}.${namespace}.${CLUSTER_DOMAIN}`
}

/**
 * The service behind `name.namespace.svc.cluster.local`; with the name `pod.name` the pod of a headless service behind
 * `pod.name.namespace.svc.cluster.local`. Undefined for any other host.
 */
export function parseServiceHost(
  host: string,
): { readonly name: string; readonly namespace: string } | undefined {
  if (!host.endsWith(`.${CLUSTER_DOMAIN}`)) return undefined
  const labels = host.slice(0, -CLUSTER_DOMAIN.length - 1).split('.')
  const namespace = labels.pop() ?? ''
  if (labels.length < 1 || labels.length > 2 || namespace === '' || labels.includes('')) return undefined
  return { name: labels.join('.'), namespace }
}

/** Namespaces that every cluster has for itself: their Services are not "the same" elsewhere, whatever their names. */
const CLUSTERS_OWN = new Set(['kube-system', 'kube-public', 'kube-node-lease', 'isthmus-system'])

/** Whether a service belongs to its cluster's own workings: never exposed, never taken from another cluster. */
export function isClustersOwn({
  name,
  namespace,
}: {
  readonly name: string
  readonly namespace: string
}): boolean {
  return CLUSTERS_OWN.has(namespace) || (namespace === 'default' && /(^|\.)kubernetes$/.test(name))
}

/**
 * The names a user may mean by `text`, most literal first: `productpage.bookinfo` is itself (a ServiceEntry may have such
 * a host) and `productpage.bookinfo.svc.cluster.local`; three labels may be a pod's, `web-0.web.shop`. Case and one trailing dot do not count (RFC 1035 2.3.3, 3.1).
 */
export function hostCandidates(text: string): readonly string[] {
  const host = (text.endsWith('.') ? text.slice(0, -1) : text).toLowerCase()
  const labels = host.split('.')
  if ((labels.length === 3 || labels.length === 4) && labels.at(-1) === 'svc')
    return [host, `${host}.cluster.local`]
  if (labels.length === 2 || labels.length === 3) return [host, `${host}.${CLUSTER_DOMAIN}`]
  return [host]
}

/** A DNS label as Kubernetes writes it (RFC 1123): 1 to 63 of `a-z 0-9 -`, no hyphen at either end. */
export function isDnsLabel(text: string): boolean {
  if (text.length === 0 || text.length > 63) return false
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    const alphanumeric = (code >= CODE_A && code <= CODE_Z) || (code >= CODE_0 && code <= CODE_9)
    const innerHyphen = code === CODE_HYPHEN && i > 0 && i < text.length - 1
    if (!alphanumeric && !innerHyphen) return false
  }
  return true
}

/** One or more DNS labels, lower-case, no trailing dot, at most 253 characters. */
export function isDnsName(text: string): boolean {
  return text.length > 0 && text.length <= 253 && text.split('.').every(isDnsLabel)
}
