// What sets the resource types apart in the protocol.
import { TYPE } from './types.ts'

/** Additions and changes go out in this order, other types after these: what is referred to before what refers to it. */
const MAKE_ORDER: readonly string[] = [
  TYPE.cluster,
  TYPE.endpoints,
  TYPE.secret,
  TYPE.upstreamPage,
  TYPE.listener,
  TYPE.route,
  TYPE.nameTable,
]

/** Removals go out in this order, after all additions. */
export const BREAK_ORDER: readonly string[] = [
  TYPE.nameTable,
  TYPE.listener,
  TYPE.route,
  TYPE.upstreamPage,
  TYPE.cluster,
  TYPE.endpoints,
  TYPE.secret,
]

/** Types whose resources refer to clusters, which must be there first; or, of pages, take over what was a cluster of its own. */
export const WAITS_FOR_CLUSTERS: ReadonlySet<string> = new Set([
  TYPE.upstreamPage,
  TYPE.listener,
  TYPE.route,
  TYPE.nameTable,
])

/** Said by the client to the server only (istio.io): never answered. */
export const NEVER_ANSWERED = 'type.googleapis.com/istio.v1.HealthInformation'

const NAMED_TYPES: ReadonlySet<string> = new Set([
  TYPE.endpoints,
  TYPE.route,
  TYPE.secret,
  'type.googleapis.com/envoy.config.route.v3.VirtualHost',
  'type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig',
  'type.googleapis.com/envoy.service.runtime.v3.Runtime',
])

/**
 * LDS, CDS and the types that are not Envoy's: an empty first request wants everything, and a SotW response is the complete
 * state. The others are only ever wanted by name, and absence from a SotW response means nothing.
 */
export function isWholeState(typeUrl: string): boolean {
  return !NAMED_TYPES.has(typeUrl)
}

/** Sorts type URLs as additions go out. */
export function byMakeOrder(a: string, b: string): number {
  return rank(a) - rank(b)
}

function rank(typeUrl: string): number {
  const index = MAKE_ORDER.indexOf(typeUrl)
  return index === -1 ? MAKE_ORDER.length : index
}
