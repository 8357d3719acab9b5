// An extension of ours to Envoy's rbac: a principal that knows a caller by the CA that signed his certificate. It travels in
// `Principal.custom` as `mtls_authenticated` does, under a type that no Envoy has, so an Envoy refuses it rather than reads past it.
//
//   package isthmus.rbac.principals.issuer.v1;
//   message Config { repeated string public_key_sha256 = 1; }
import { create } from '@bufbuild/protobuf'
import { BinaryReader, BinaryWriter, WireType } from '@bufbuild/protobuf/wire'
import { type Any, AnySchema } from '@bufbuild/protobuf/wkt'
import type { Principal } from '../xds/gen/envoy/config/rbac/v3/rbac_pb.js'
import { customPrincipal } from './newer-envoy.ts'

export const ISSUER_TYPE = 'type.googleapis.com/isthmus.rbac.principals.issuer.v1.Config'
const PUBLIC_KEY_SHA256 = 1

/** Matches a caller whose verified certificate was signed with one of these keys: SHA-256 of the SPKI, hexadecimal, lower case. */
export function issuedBy(publicKeyHashes: readonly string[]): Principal {
  const writer = new BinaryWriter()
  for (const hash of publicKeyHashes) writer.tag(PUBLIC_KEY_SHA256, WireType.LengthDelimited).string(hash)
  const typedConfig = create(AnySchema, { typeUrl: ISSUER_TYPE, value: writer.finish() })
  return customPrincipal('isthmus.rbac.principals.issuer', typedConfig)
}

/** The keys of an issuer principal; the error is what was expected. Throws on bytes that are no protobuf. */
export function readIssuers(any: Any): { readonly keys: readonly string[]; readonly error?: string } {
  const reader = new BinaryReader(any.value)
  const keys: string[] = []
  while (reader.pos < reader.len) {
    const [no, wireType] = reader.tag()
    if (no !== PUBLIC_KEY_SHA256 || wireType !== WireType.LengthDelimited)
      return { keys, error: `field number ${no} is not supported` }
    keys.push(reader.string())
  }
  const bad = keys.find((key) => !/^[0-9a-f]{64}$/.test(key))
  if (bad !== undefined)
    return { keys, error: `public_key_sha256: expected 64 lower-case hexadecimal digits, found "${bad}"` }
  return keys.length === 0 ? { keys, error: 'public_key_sha256: expected at least one' } : { keys }
}
