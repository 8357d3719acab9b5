// Fields of Envoy's API that are newer than the .proto files our code is generated from. They travel as unknown fields, which
// protobuf-es keeps and writes; the numbers are those of Envoy 1.40 (read from the descriptors in its binary).
import {
  create,
  type DescMessage,
  fromBinary,
  type MessageShape,
  toBinary,
  type UnknownField,
} from '@bufbuild/protobuf'
import { BinaryReader, BinaryWriter, WireType } from '@bufbuild/protobuf/wire'
import { type Any, AnySchema } from '@bufbuild/protobuf/wkt'
import {
  type TypedExtensionConfig,
  TypedExtensionConfigSchema,
} from '../xds/gen/envoy/config/core/v3/extension_pb.js'
import {
  type SubstitutionFormatString,
  SubstitutionFormatStringSchema,
} from '../xds/gen/envoy/config/core/v3/substitution_format_string_pb.js'
import { type Principal, PrincipalSchema } from '../xds/gen/envoy/config/rbac/v3/rbac_pb.js'
import type { TcpProxy } from '../xds/gen/envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy_pb.js'
import {
  type SubjectAltNameMatcher,
  SubjectAltNameMatcherSchema,
} from '../xds/gen/envoy/extensions/transport_sockets/tls/v3/common_pb.js'
import { readFields } from './protobuf-fields.ts'

/** `TcpProxy`. */
const UPSTREAM_CONNECT_MODE = 21
const MAX_EARLY_DATA_BYTES = 22
/** `TcpProxy.max_downstream_connection_duration_jitter_percentage`, a `type.v3.Percent`. */
const DURATION_JITTER = 20
/** Enum `UpstreamConnectMode`. */
const CONNECT_MODE = { 'first byte': 1, handshake: 2 } as const
/** `config.rbac.v3.Principal.custom` (oneof `identifier`), a `core.v3.TypedExtensionConfig`. */
const CUSTOM_PRINCIPAL = 14

const MTLS_AUTHENTICATED = 'envoy.rbac.principals.mtls_authenticated'
export const MTLS_AUTHENTICATED_TYPE =
  'type.googleapis.com/envoy.extensions.rbac.principals.mtls_authenticated.v3.Config'

/**
 * Makes an Envoy connect upstream only once the downstream handshake is over, or with the client's first byte after it; by default it
 * connects for strangers too. What the client sends meanwhile, at most `maxEarlyDataBytes` (the mode requires it, 1 MiB the limit), waits.
 */
export function connectAfter(
  proxy: TcpProxy,
  what: keyof typeof CONNECT_MODE,
  maxEarlyDataBytes = 65_536,
): void {
  const limit = new BinaryWriter().tag(1, WireType.Varint).uint32(maxEarlyDataBytes).finish()
  const mode = new BinaryWriter().uint32(CONNECT_MODE[what]).finish()
  proxy.$unknown = [
    ...(proxy.$unknown ?? []),
    { no: UPSTREAM_CONNECT_MODE, wireType: WireType.Varint, data: mode },
    lengthDelimited(MAX_EARLY_DATA_BYTES, limit),
  ]
}

/** Lengthens `max_downstream_connection_duration` of each connection at random, by this much at most. */
export function jitterDuration(proxy: TcpProxy, percent: number): void {
  const message = new BinaryWriter().tag(1, WireType.Bit64).double(percent).finish()
  proxy.$unknown = [...(proxy.$unknown ?? []), lengthDelimited(DURATION_JITTER, message)]
}

/** Matches a caller whose verified certificate has a SAN that `matcher` matches (`mtls_authenticated.v3.Config.san_matcher`). */
export function mtlsAuthenticated(matcher: SubjectAltNameMatcher): Principal {
  const config = new BinaryWriter()
    .tag(1, WireType.LengthDelimited)
    .bytes(toBinary(SubjectAltNameMatcherSchema, matcher))
    .finish()
  const typedConfig = create(AnySchema, { typeUrl: MTLS_AUTHENTICATED_TYPE, value: config })
  return customPrincipal(MTLS_AUTHENTICATED, typedConfig)
}

/** A principal that an extension decides about. */
export function customPrincipal(name: string, typedConfig: Any): Principal {
  const extension = create(TypedExtensionConfigSchema, { name, typedConfig })
  const principal = create(PrincipalSchema)
  principal.$unknown = [lengthDelimited(CUSTOM_PRINCIPAL, toBinary(TypedExtensionConfigSchema, extension))]
  return principal
}

/**
 * The custom principal's extension name and configuration, undefined where `principal` has none. Throws on bytes that are no
 * protobuf.
 */
export function readCustomPrincipal(
  principal: Principal,
): { readonly name: string; readonly config: Any | undefined } | undefined {
  // Proto3: of several, the last one counts.
  const field = principal.$unknown?.findLast(({ no }) => no === CUSTOM_PRINCIPAL)
  if (field === undefined) return undefined
  const bytes = new BinaryReader(field.data).bytes()
  const { name, typedConfig }: TypedExtensionConfig = fromBinary(TypedExtensionConfigSchema, bytes)
  return { name, config: typedConfig }
}

/** `data` of an unknown field begins with its length. */
function lengthDelimited(no: number, bytes: Uint8Array): UnknownField {
  return { no, wireType: WireType.LengthDelimited, data: new BinaryWriter().bytes(bytes).finish() }
}

/** `core.v3.ProxyProtocolConfig.added_tlvs` and `TcpProxy.proxy_protocol_tlvs`. */
export const ADDED_TLVS = 3
export const PROXY_PROTOCOL_TLVS = 19

/** `TcpProxy.backoff_options`, a `core.v3.BackoffStrategy`. */
export const BACKOFF_OPTIONS = 18

/** A message in a field that our code does not know; of several the last one counts. */
export function unknownMessage<Desc extends DescMessage>(
  message: { readonly $unknown?: UnknownField[] | undefined },
  field: number,
  schema: Desc,
): MessageShape<Desc> | 'malformed' | undefined {
  const found = message.$unknown?.findLast(({ no }) => no === field)
  if (found === undefined) return undefined
  try {
    return fromBinary(schema, new BinaryReader(found.data).bytes())
  } catch {
    return 'malformed'
  }
}

/** `core.v3.TlvEntry`. */
export interface TlvEntry {
  readonly type: number
  readonly value: Uint8Array
  readonly format: SubstitutionFormatString | undefined
}

/** The TLVs in a repeated field that our code does not know. Throws on bytes that are no protobuf. */
export function readTlvs(
  message: { readonly $unknown?: UnknownField[] | undefined },
  field: number,
): TlvEntry[] {
  const entries: TlvEntry[] = []
  for (const { no, data } of message.$unknown ?? []) {
    if (no !== field) continue
    let entry: TlvEntry = { type: 0, value: new Uint8Array(), format: undefined }
    readFields(new BinaryReader(data).bytes(), (at, reader) => {
      if (at === 1) entry = { ...entry, type: reader.uint32() }
      else if (at === 2) entry = { ...entry, value: reader.bytes() }
      else if (at === 3)
        entry = { ...entry, format: fromBinary(SubstitutionFormatStringSchema, reader.bytes()) }
      else return false
      return true
    })
    entries.push(entry)
  }
  return entries
}

/** Adds TLVs whose values are formatted for each connection: type and format, such as `%REQUESTED_SERVER_NAME%`. */
export function addFormattedTlvs(
  proxy: TcpProxy,
  tlvs: readonly (readonly [type: number, format: string])[],
): void {
  const fields = tlvs.map(([type, format]) => {
    const formatString = create(SubstitutionFormatStringSchema, {
      format: {
        case: 'textFormatSource',
        value: { specifier: { case: 'inlineString', value: format } },
      },
    })
    const entry = new BinaryWriter()
      .tag(1, WireType.Varint)
      .uint32(type)
      .tag(3, WireType.LengthDelimited)
      .bytes(toBinary(SubstitutionFormatStringSchema, formatString))
      .finish()
    return lengthDelimited(PROXY_PROTOCOL_TLVS, entry)
  })
  proxy.$unknown = [...(proxy.$unknown ?? []), ...fields]
}
