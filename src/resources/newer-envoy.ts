// Fields of Envoy's API that are newer than the .proto files our code is generated from. They travel as unknown fields, which
// protobuf-es keeps and writes; the numbers are those of Envoy 1.40 (read from the descriptors in its binary).
import { create, fromBinary, toBinary, type UnknownField } from '@bufbuild/protobuf'
import { BinaryReader, BinaryWriter, WireType } from '@bufbuild/protobuf/wire'
import { type Any, AnySchema } from '@bufbuild/protobuf/wkt'
import {
  type TypedExtensionConfig,
  TypedExtensionConfigSchema,
} from '../xds/gen/envoy/config/core/v3/extension_pb.js'
import { type Principal, PrincipalSchema } from '../xds/gen/envoy/config/rbac/v3/rbac_pb.js'
import type { TcpProxy } from '../xds/gen/envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy_pb.js'
import {
  type SubjectAltNameMatcher,
  SubjectAltNameMatcherSchema,
} from '../xds/gen/envoy/extensions/transport_sockets/tls/v3/common_pb.js'

/** `TcpProxy`. */
const UPSTREAM_CONNECT_MODE = 21
const MAX_EARLY_DATA_BYTES = 22
/** Enum `UpstreamConnectMode`. */
const ON_DOWNSTREAM_TLS_HANDSHAKE = 2
/** `config.rbac.v3.Principal.custom` (oneof `identifier`), a `core.v3.TypedExtensionConfig`. */
const CUSTOM_PRINCIPAL = 14

const MTLS_AUTHENTICATED = 'envoy.rbac.principals.mtls_authenticated'
export const MTLS_AUTHENTICATED_TYPE =
  'type.googleapis.com/envoy.extensions.rbac.principals.mtls_authenticated.v3.Config'

/**
 * Makes an Envoy connect upstream only once the downstream handshake is over; by default it connects for strangers too. What
 * the client sends meanwhile, at most `maxEarlyDataBytes` (the mode requires it, 1 MiB the limit), waits.
 */
export function connectAfterHandshake(proxy: TcpProxy, maxEarlyDataBytes: number): void {
  const limit = new BinaryWriter().tag(1, WireType.Varint).uint32(maxEarlyDataBytes).finish()
  const mode = new BinaryWriter().uint32(ON_DOWNSTREAM_TLS_HANDSHAKE).finish()
  proxy.$unknown = [
    { no: UPSTREAM_CONNECT_MODE, wireType: WireType.Varint, data: mode },
    lengthDelimited(MAX_EARLY_DATA_BYTES, limit),
  ]
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
