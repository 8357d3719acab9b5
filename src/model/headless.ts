// A headless Service has a name for each of its pods that has a host name, as a StatefulSet's do: `web-0.web.shop.svc.cluster.local`
// (Kubernetes DNS specification 2.4.1). Each is a host like any other: exposed with its Service, with server names of its own.
import type { Service } from '../objects/types.ts'
import type { Conditions } from './conditions.ts'
import { isDnsLabel } from './host.ts'
import { byText } from './labels.ts'
import { formatServerName, parseServerName } from './server-name.ts'
import type { ModelService } from './types.ts'

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
  const pods = [...new Set(hostNames)].sort(byText)
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
