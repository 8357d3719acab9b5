import { TYPE, type XdsResource } from '../xds/types.ts'
import { acceptListener } from './accept-listener.ts'
import type { ListenerConfig, UpstreamConfig } from './accept-types.ts'
import { acceptUpstream } from './accept-upstream.ts'

/** Names of other resources that one refers to; sorted, each once. */
export interface References {
  /** EDS. */
  readonly endpoints: readonly string[]
  /** SDS. */
  readonly secrets: readonly string[]
}

export const NO_REFERENCES: References = { endpoints: [], secrets: [] }

/** What a client of ADS must subscribe to because of this resource. A resource that is not accepted refers to nothing. */
export function references(typeUrl: string, resource: XdsResource): References {
  if (typeUrl === TYPE.listener) {
    const config = acceptListener(resource)
    return config.ok ? { endpoints: [], secrets: listenerSecrets(config.value) } : NO_REFERENCES
  }
  if (typeUrl === TYPE.cluster) {
    const config = acceptUpstream(resource)
    return config.ok ? upstreamReferences(config.value) : NO_REFERENCES
  }
  return NO_REFERENCES
}

/** What an upstream refers to. */
export function upstreamReferences(config: UpstreamConfig): References {
  const { endpointsName } = config
  return { endpoints: endpointsName === '' ? [] : [endpointsName], secrets: upstreamSecrets(config) }
}

/** The SDS names of a listener. */
export function listenerSecrets(config: ListenerConfig): string[] {
  return unique(
    config.chains.flatMap(({ tls }) => (tls === undefined ? [] : [tls.credentialSecret, tls.trustSecret])),
  )
}

/** The SDS names of an upstream. */
export function upstreamSecrets(config: UpstreamConfig): string[] {
  const sockets = [config.defaultSocket, ...config.socketMatches.map(({ socket }) => socket)]
  return unique(
    sockets.flatMap((socket) =>
      socket.kind === 'tls' ? [socket.tls.credentialSecret, socket.tls.trustSecret] : [],
    ),
  )
}

function unique(names: readonly string[]): string[] {
  return [...new Set(names)].sort()
}
