import type { Problem, Result } from '../lib/result.ts'
import type { Metadata } from '../xds/gen/envoy/config/core/v3/base_pb.js'
import { ListenerSchema } from '../xds/gen/envoy/config/listener/v3/listener_pb.js'
import type { XdsResource } from '../xds/types.ts'
import { OWN_METADATA } from './accept-aliases.ts'
import { type AcceptContext, begin, SOCKET_ADDRESS } from './accept-context.ts'
import { FILTER_CHAIN_FIELDS, readFilterChain } from './accept-filter-chain.ts'
import { readListenerFilters } from './accept-listener-filters.ts'
import type { FilterChainConfig, FilterChainMatch, ListenerConfig } from './accept-types.ts'

export const LISTENER_FIELDS = {
  name: true,
  stat_prefix: true,
  traffic_direction: true,
  address: SOCKET_ADDRESS,
  metadata: { filter_metadata: true },
  listener_filters: { name: true, typed_config: true },
  listener_filters_timeout: true,
  filter_chains: FILTER_CHAIN_FIELDS,
} as const

const DEFAULT_HANDSHAKE_TIMEOUT_MS = 5_000

/**
 * Envoy Listener → ours. The subset: one TCP address; filter chains told apart by exact server names, transport protocol and
 * application protocols; chains that terminate mutual TLS or pass mesh TLS through, side by side, or one chain of plain TCP; filters
 * `rbac`…, `sni_cluster` (TLS only), `tcp_proxy` last; listener filters `proxy_protocol`, `tls_inspector`.
 */
export function acceptListener(resource: XdsResource): Result<ListenerConfig, Problem> {
  const begun = begin(resource, ListenerSchema, LISTENER_FIELDS)
  if (!begun.ok) return begun
  const { ctx, message } = begun.value
  const { tlsInspector, proxyProtocol } = readListenerFilters(ctx, message)
  const helloTimeoutMs = ctx.durationMs(
    message.listenerFiltersTimeout,
    DEFAULT_HANDSHAKE_TIMEOUT_MS,
    'listener_filters_timeout',
  )
  const chains = message.filterChains.map((chain, index) =>
    readFilterChain(ctx, chain, index, helloTimeoutMs),
  )
  checkChains(ctx, chains)
  if (!tlsInspector && chains.some(({ mode }) => mode === 'passthrough')) {
    ctx.refuse(
      'listener_filters',
      'expected envoy.filters.listener.tls_inspector: without it nobody sees the server names of the passthrough chains',
    )
  }
  return ctx.finish({
    name: resource.name,
    version: resource.version,
    address: ctx.address(message.address, 'address', true),
    chains,
    proxyProtocol,
    helloTimeoutMs,
    service: readService(message.metadata),
  })
}

/** A connection must have one chain and one only: Envoy refuses such listeners too. */
function checkChains(ctx: AcceptContext, chains: readonly FilterChainConfig[]): void {
  if (chains.length === 0) ctx.refuse('filter_chains', 'expected at least one')
  const names = new Set<string>()
  const matched = new Set<string>()
  for (const [index, chain] of chains.entries()) {
    const path = `filter_chains[${index}]`
    if (names.has(chain.name)) ctx.refuse(`${path}.name`, `a second chain is called "${chain.name}"`)
    names.add(chain.name)
    for (const [key, words] of matchesOf(chain.match)) {
      if (matched.has(key)) ctx.refuse(`${path}.filter_chain_match`, `a second chain matches ${words}`)
      matched.add(key)
    }
    if (chain.mode === 'plain' && index > 0)
      ctx.refuse(path, 'expected one chain alone where it is of plain TCP')
    if ((chain.mode === 'plain') !== (chains[0]?.mode === 'plain')) {
      ctx.refuse(`${path}.transport_socket`, 'TLS and plain TCP on one listener are not supported')
    }
  }
}

/** Every combination that a match names, as a key and in words. */
function matchesOf({
  serverNames,
  transportProtocol,
  applicationProtocols,
}: FilterChainMatch): [string, string][] {
  const anyIfNone = (names: readonly string[]) => (names.length === 0 ? [''] : [...new Set(names)])
  return anyIfNone(serverNames).flatMap((name) =>
    anyIfNone(applicationProtocols).map((protocol): [string, string] => [
      JSON.stringify([name, transportProtocol, protocol]),
      `${name === '' ? 'every server name' : name}${protocol === '' ? '' : ` with ${protocol}`}`,
    ]),
  )
}

function readService(metadata: Metadata | undefined): ListenerConfig['service'] {
  const { host, port, protocol } = metadata?.filterMetadata[OWN_METADATA] ?? {}
  return {
    host: typeof host === 'string' ? host : '',
    port: typeof port === 'number' ? port : 0,
    protocol: typeof protocol === 'string' ? protocol : '',
  }
}
