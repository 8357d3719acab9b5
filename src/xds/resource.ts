import {
  create,
  type DescMessage,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from '@bufbuild/protobuf'
import { contentHash } from '../lib/canonical.ts'
import { fail, ok, type Problem, problem, type Result } from '../lib/result.ts'
import type { XdsResource } from './types.ts'

const PREFIX = 'type.googleapis.com/'

/** The type URL of a message inside an `Any`. */
export function typeUrlOf(schema: DescMessage): string {
  return PREFIX + schema.typeName
}

/** Encodes a message once; the version is a hash of the bytes, so equal content has the same version on every replica. */
export function encodeResource<D extends DescMessage>(
  schema: D,
  message: MessageInitShape<D>,
  name: string,
): XdsResource {
  return rawResource(name, typeUrlOf(schema), toBinary(schema, create(schema, message)))
}

/** A resource whose bytes are already there; the version is the hash of `body`. */
export function rawResource(name: string, anyTypeUrl: string, body: Uint8Array): XdsResource {
  return { name, version: contentHash(body), anyTypeUrl, body }
}

/**
 * The message inside a resource. Lenient as protobuf is: unknown fields are kept, any authority may stand before the `/` of
 * the type URL. Another type, or bytes that are no message, is a problem of the resource, never an exception.
 */
export function decodeResource<D extends DescMessage>(
  schema: D,
  resource: XdsResource,
): Result<MessageShape<D>, Problem> {
  const typeName = resource.anyTypeUrl.slice(resource.anyTypeUrl.lastIndexOf('/') + 1)
  if (typeName !== schema.typeName)
    return fail(
      problem(resource.name, 'type_url', `is ${resource.anyTypeUrl}, expected ${typeUrlOf(schema)}`),
    )
  try {
    return ok(fromBinary(schema, resource.body))
  } catch (error) {
    return fail(problem(resource.name, '', `is not a valid ${schema.typeName}: ${(error as Error).message}`))
  }
}

const fingerprints = new WeakMap<XdsResource, readonly [number, number]>()
const versions = new WeakMap<ReadonlyMap<string, XdsResource>, string>()

/**
 * The version of a set: a sum of the members' fingerprints, so that the order does not matter and a member is hashed once in
 * its life. Tells sets apart by accident-proof 64 bits; it is no defence against someone who chooses the content.
 */
export function setVersion(resources: Iterable<XdsResource>): string {
  let high = 0
  let low = 0
  for (const resource of resources) {
    const [a, b] = fingerprint(resource)
    high = (high + a) >>> 0
    low = (low + b) >>> 0
  }
  return high.toString(16).padStart(8, '0') + low.toString(16).padStart(8, '0')
}

/** `setVersion` of an immutable map, computed once however many clients see it. */
export function mapVersion(resources: ReadonlyMap<string, XdsResource>): string {
  const version = versions.get(resources) ?? setVersion(resources.values())
  versions.set(resources, version)
  return version
}

function fingerprint(resource: XdsResource): readonly [number, number] {
  let parts = fingerprints.get(resource)
  if (parts === undefined) {
    const hash = contentHash(`${resource.name}\0${resource.version}`)
    parts = [Number.parseInt(hash.slice(0, 8), 16), Number.parseInt(hash.slice(8), 16)]
    fingerprints.set(resource, parts)
  }
  return parts
}

/** At most so many bytes in a Delta response; less in SotW. Names are ASCII, and lengths take up to five bytes. */
export function encodedSize({ name, version, anyTypeUrl, body }: XdsResource): number {
  return name.length + version.length + anyTypeUrl.length + body.length + 32
}
