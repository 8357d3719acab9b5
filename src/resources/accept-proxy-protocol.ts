import {
  ProxyProtocolPassThroughTLVs_PassTLVsMatchType as Match,
  type ProxyProtocolConfig as Message,
  ProxyProtocolConfig_Version,
} from '../xds/gen/envoy/config/core/v3/proxy_protocol_pb.js'
import type { AcceptContext } from './accept-context.ts'
import { ADDED_TLVS, readTlvs } from './newer-envoy.ts'
import type { ProxyProtocolTlv, UpstreamProxyProtocolConfig } from './upstream-types.ts'

/** The allow-list of `ProxyProtocolUpstreamTransport`, `transport_socket` excepted. */
export const PROXY_PROTOCOL_FIELDS = {
  config: {
    version: true,
    pass_through_tlvs: { match_type: true, tlv_type: true },
    [`#${ADDED_TLVS}`]: true,
  },
} as const

/** What a format may say of a connection; `%COMMAND%`, as in Envoy's access logs. */
const TLV_COMMANDS = [
  'REQUESTED_SERVER_NAME',
  'DOWNSTREAM_PEER_URI_SAN',
  'DOWNSTREAM_REMOTE_ADDRESS',
  'DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT',
  'DOWNSTREAM_LOCAL_ADDRESS',
  'DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT',
  'DOWNSTREAM_TLS_VERSION',
  'UPSTREAM_CLUSTER',
] as const

/** A TLV's length has 16 bits, and so has the whole header's: this leaves room for a few of them. */
const MAX_VALUE_BYTES = 4_096
const MAX_TLVS = 14

export function readProxyProtocol(
  ctx: AcceptContext,
  message: Message | undefined,
  path: string,
): UpstreamProxyProtocolConfig {
  const pass = message?.passThroughTlvs
  for (const [index, type] of (pass?.tlvType ?? []).entries())
    if (type > 255)
      ctx.refuse(`${path}.pass_through_tlvs.tlv_type[${index}]`, `expected at most 255, found ${type}`)
  const addedTlvs = readTlvList(ctx, message ?? {}, ADDED_TLVS, `${path}.added_tlvs`)
  for (const [index, { format }] of addedTlvs.entries()) {
    // An Envoy has no connection at hand there, and sends "-".
    if (format !== '') ctx.refuse(`${path}.added_tlvs[${index}].format_string`, 'expected a value')
  }
  const version = message?.version === ProxyProtocolConfig_Version.V2 ? 'V2' : 'V1'
  if (version === 'V1' && addedTlvs.length > 0)
    ctx.refuse(`${path}.added_tlvs`, 'expected none: version 1 has no TLVs')
  return {
    version,
    passTlvs: pass === undefined ? 'none' : pass.matchType === Match.INCLUDE_ALL ? 'all' : pass.tlvType,
    addedTlvs,
  }
}

/** A repeated `TlvEntry` field that is younger than our generated code. */
export function readTlvList(
  ctx: AcceptContext,
  message: Parameters<typeof readTlvs>[0],
  field: number,
  path: string,
): ProxyProtocolTlv[] {
  let entries: ReturnType<typeof readTlvs>
  try {
    entries = readTlvs(message, field)
  } catch {
    ctx.refuse(path, 'does not decode as envoy.config.core.v3.TlvEntry')
    return []
  }
  if (entries.length > MAX_TLVS) ctx.refuse(path, `expected at most ${MAX_TLVS}, found ${entries.length}`)
  return entries.map(({ type, value, format }, index): ProxyProtocolTlv => {
    const at = `${path}[${index}]`
    if (type > 255) ctx.refuse(`${at}.type`, `expected at most 255, found ${type}`)
    if (value.length > MAX_VALUE_BYTES)
      ctx.refuse(`${at}.value`, `expected at most ${MAX_VALUE_BYTES} bytes, found ${value.length}`)
    if (value.length > 0 === (format !== undefined))
      ctx.refuse(at, 'expected either a value or a format_string')
    if (format === undefined) return { type, value: Buffer.from(value), format: '' }
    const source = format.format
    const text =
      source.case === 'textFormat'
        ? source.value
        : source.case === 'textFormatSource' && source.value.specifier.case === 'inlineString'
          ? source.value.specifier.value
          : ''
    if (text === '' || Buffer.byteLength(text) > MAX_VALUE_BYTES)
      ctx.refuse(`${at}.format_string`, 'expected a text_format_source with an inline_string')
    for (const [, command = ''] of text.matchAll(/%([^%]*)%?/g)) {
      if (!(TLV_COMMANDS as readonly string[]).includes(command))
        ctx.refuse(
          `${at}.format_string`,
          `%${command}% is not supported; expected ${TLV_COMMANDS.join(', ')}`,
        )
    }
    return { type, value: undefined, format: text }
  })
}
