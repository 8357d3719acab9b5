// How fresh what the proxies have is: the part of an explanation that the model cannot know. It never breaks a path by itself,
// since a proxy without its discovery server serves what it had.
import type { Hop } from '../model/explain.ts'
import type { ClientStatus } from '../xds/server-stream.ts'
import { shortType } from '../xds/types.ts'
import type { PeerStatus } from './peers.ts'
import { viewKey } from './views.ts'

/** Whether the pods of a gateway (`namespace/name`) have what they were told. */
export function gatewayConfigHop(gateway: string, clients: readonly ClientStatus[]): Hop {
  const pods = clients.filter((client) => {
    const key = viewKey(client.view)
    return key?.kind === 'gateway' && key.gateway === gateway
  })
  return note(`gateway ${gateway}`, pods)
}

/** The same for the sidecars, and whether the peers that told of the service can be heard. */
export function sidecarConfigHop(clients: readonly ClientStatus[], peers: readonly PeerStatus[]): Hop {
  const sidecars = clients.filter((client) => viewKey(client.view)?.kind === 'sidecar')
  const hop = note('the sidecars', sidecars)
  const heard = peers.map(({ cluster, connected, stale, error }) => {
    if (connected) return `${cluster} is heard`
    return `${cluster} is not heard${error === '' ? '' : ` (${error})`}${stale ? ', what it told stays in force' : ''}`
  })
  return { ...hop, detail: [hop.detail, ...heard].join('; ') }
}

function note(whose: string, clients: readonly ClientStatus[]): Hop {
  const behind = clients.flatMap((client) => {
    const types = Object.entries(client.types).filter(([, type]) => !type.settled || type.refusing)
    return types.length === 0 ? [] : [`${client.nodeId}: ${types.map(lateness).join(', ')}`]
  })
  const detail =
    clients.length === 0
      ? `no pod of ${whose} is connected here: those that run serve what they had`
      : behind.length === 0
        ? `all ${clients.length} connected of ${whose} have what they were told`
        : `${behind.length} of ${clients.length} connected of ${whose} have not: ${behind.slice(0, 3).join('; ')}`
  return { hop: 'config', ok: true, detail, fix: '' }
}

function lateness([typeUrl, { refusing, lastError, lagMs }]: readonly [
  string,
  ClientStatus['types'][string],
]): string {
  const name = shortType(typeUrl)
  if (refusing) return `${name} refused: ${lastError}`
  return lagMs > 0 ? `${name} without an answer for ${(lagMs / 1_000).toFixed(1)} s` : `${name} on its way`
}
