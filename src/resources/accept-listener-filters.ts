import { parseIpRange } from '../lib/ip-range.ts'
import { ProxyProtocolConfig_Version as Version } from '../xds/gen/envoy/config/core/v3/proxy_protocol_pb.js'
import type { Listener } from '../xds/gen/envoy/config/listener/v3/listener_pb.js'
import { ProxyProtocolSchema } from '../xds/gen/envoy/extensions/filters/listener/proxy_protocol/v3/proxy_protocol_pb.js'
import { TlsInspectorSchema } from '../xds/gen/envoy/extensions/filters/listener/tls_inspector/v3/tls_inspector_pb.js'
import { OWN_METADATA } from './accept-aliases.ts'
import { type AcceptContext, typeOf } from './accept-context.ts'
import type { AddressRange, ProxyProtocolConfig } from './accept-types.ts'

/** Key in our metadata: who may speak for others. */
export const PROXY_PROTOCOL_SOURCES = 'proxy_protocol_sources'

export const PROXY_PROTOCOL_FIELDS = { stat_prefix: true, disallowed_versions: true } as const

export interface ListenerFilters {
  readonly tlsInspector: boolean
  readonly proxyProtocol: ProxyProtocolConfig | undefined
}

/**
 * `tls_inspector`, which this engine does anyway, and before it `proxy_protocol`. Envoy's filter believes everybody; ours wants
 * `metadata.filter_metadata.isthmus.proxy_protocol_sources`, the ranges of the load balancers that put the header in front, and
 * reads it from nobody else.
 */
export function readListenerFilters(ctx: AcceptContext, message: Listener): ListenerFilters {
  const sources = readSources(ctx, message)
  let tlsInspector = false
  let proxyProtocol: ProxyProtocolConfig | undefined
  for (const [index, filter] of message.listenerFilters.entries()) {
    const path = `listener_filters[${index}].typed_config`
    const any = filter.configType.case === 'typedConfig' ? filter.configType.value : undefined
    const type = any === undefined ? '' : typeOf(any)
    if (any !== undefined && type === TlsInspectorSchema.typeName) {
      ctx.unpack(any, TlsInspectorSchema, {}, path)
      tlsInspector = true
    } else if (any !== undefined && type === ProxyProtocolSchema.typeName) {
      if (tlsInspector) ctx.refuse(path, 'expected proxy_protocol before tls_inspector')
      const config = ctx.unpack(any, ProxyProtocolSchema, PROXY_PROTOCOL_FIELDS, path)
      if (config !== undefined)
        proxyProtocol = { sources, versions: readVersions(ctx, config.disallowedVersions, path) }
    } else {
      ctx.refuse(path, `expected a TlsInspector or a ProxyProtocol, found ${type || 'nothing'}`)
    }
  }
  checkSources(ctx, sources, proxyProtocol !== undefined)
  return { tlsInspector, proxyProtocol }
}

function readVersions(ctx: AcceptContext, disallowed: readonly Version[], path: string): (1 | 2)[] {
  const versions = ([1, 2] as const).filter(
    (each) => !disallowed.includes(each === 1 ? Version.V1 : Version.V2),
  )
  if (versions.length === 0) ctx.refuse(`${path}.disallowed_versions`, 'expected one version to be left')
  return versions
}

const PATH = `metadata.filter_metadata["${OWN_METADATA}"].${PROXY_PROTOCOL_SOURCES}`

function checkSources(ctx: AcceptContext, sources: readonly AddressRange[], filter: boolean): void {
  if (filter && sources.length === 0)
    ctx.refuse(
      PATH,
      'expected the address ranges that may speak for others: the proxy_protocol filter is there',
    )
  if (!filter && sources.length > 0)
    ctx.refuse(PATH, 'expected the listener filter envoy.filters.listener.proxy_protocol with it')
}

function readSources(ctx: AcceptContext, message: Listener): AddressRange[] {
  const sources = message.metadata?.filterMetadata[OWN_METADATA]?.[PROXY_PROTOCOL_SOURCES]
  if (sources === undefined) return []
  if (!Array.isArray(sources)) {
    ctx.refuse(PATH, 'expected a list of addresses or ranges')
    return []
  }
  return sources.flatMap((text, i) => {
    const range = typeof text === 'string' ? parseIpRange(text) : undefined
    if (range === undefined)
      ctx.refuse(
        `${PATH}[${i}]`,
        `expected an address or a range such as 10.0.0.0/8, found ${JSON.stringify(text)}`,
      )
    return range ?? []
  })
}
