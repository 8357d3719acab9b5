// A headless Service has a name for each of its pods that has a host name, as a StatefulSet's do: `web-0.web.shop.svc.cluster.local`
// (Kubernetes DNS specification 2.4.1). Each is a host like any other: exposed with its Service, with server names of its own.
import type { Service } from '../objects/types.ts'
import type { Conditions } from './conditions.ts'
import { isDnsLabel } from './host.ts'
import { byText } from './labels.ts'
import { formatServerName, parseServerName } from './server-name.ts'
import type { ModelService } from './types.ts'

/** Of one Service; each costs every cluster that imports it a name, an address and upstreams. */
const PODS_MAX = 1_000

/** `Service/shop/web`: the object behind a host, also where the host is one of its pods. */
export function serviceObject({
  namespace,
  name,
  pod,
}: Pick<ModelService, 'namespace' | 'name' | 'pod'>): string {
  return `Service/${namespace}/${pod === undefined ? name : name.slice(pod.length + 1)}`
}

/** The hosts of the pods of a headless Service, sorted; none for any other Service. */
export function podServices(
  service: Service,
  { subsets: _, selector: _selector, ...shared }: ModelService,
  conditions: Conditions,
): ModelService[] {
  if (service.spec.clusterIP !== 'None') return []
  const hostNames = shared.ports.flatMap(({ endpoints }) =>
    endpoints.flatMap(({ hostName }) => hostName ?? []),
  )
  const named = [...new Set(hostNames)].sort(byText)
  const pods = named.slice(0, PODS_MAX)
  if (named.length > pods.length) {
    const message = `${named.length} of its pods have host names; the first ${PODS_MAX} by name are hosts of their own`
    conditions.holds(service, 'Accepted', 'TooManyPodNames', message)
  }
  return pods.flatMap((pod) => {
    const host = `${pod}.${shared.host}`
    const mistake = mistakeIn(pod, host, shared)
    if (mistake !== undefined) {
      const message = `its pod "${pod}" has no name of its own: ${mistake}`
      conditions.holds(service, 'Accepted', 'NoPodName', message)
      return []
    }
    const ports = shared.ports.map((port) => ({
      ...port,
      endpoints: port.endpoints.filter(({ hostName }) => hostName === pod),
    }))
    return [{ ...shared, name: `${pod}.${shared.name}`, host, selector: {}, ports, pod }]
  })
}

/** Why a pod cannot be called by its own name: it has to be a name in DNS and in TLS. */
function mistakeIn(pod: string, host: string, { ports }: Pick<ModelService, 'ports'>): string | undefined {
  if (!isDnsLabel(pod)) return 'expected a DNS label as host name'
  const longest = Math.max(1, ...ports.map(({ number }) => number))
  const parsed = parseServerName(formatServerName({ port: longest, subset: '', host }))
  return parsed.ok ? undefined : `the server name ${parsed.error}`
}
