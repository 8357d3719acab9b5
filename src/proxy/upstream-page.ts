// Upstreams at rest: thousands that nobody calls cost a worker a few bytes each. The supervisor, which has checked every resource, packs
// them into pages by a hash of their names; a worker keeps the pages as they came and reads one when a connection asks for a name in it.
import { deflateRawSync, inflateRawSync } from 'node:zlib'
import type { XdsResource } from '../xds/types.ts'

/** How many pages there are; one that is empty does not exist. Twenty upstreams in each of ten thousand. */
export const PAGES = 512
/** What a worker says it can read (`Node.client_features`): one that cannot is given every resource by itself. */
export const READS_PAGES = 'isthmus.upstream_pages.v1'

/** Name, version and body of a resource. */
export type PackedResource = Pick<XdsResource, 'name' | 'version' | 'body'>

/** One upstream in its page. */
export interface PackedUpstream {
  readonly cluster: PackedResource
  /** Undefined: discovery has none. */
  readonly endpoints: PackedResource | undefined
}

export interface PageContent {
  /** By name of the Cluster. */
  readonly upstreams: ReadonlyMap<string, PackedUpstream>
  /** Alias → the upstreams that claim it. An alias is in the page of its own hash. */
  readonly aliases: ReadonlyMap<string, readonly string[]>
  /** SDS names that its upstreams refer to. */
  readonly secrets: readonly string[]
}

/** What stands before the packed part. */
interface Head {
  readonly secrets: readonly string[]
}

/** What stands before the bodies: their names, versions and lengths, in order. */
interface Index {
  readonly upstreams: readonly (readonly [
    cluster: readonly [name: string, version: string, length: number],
    endpoints: readonly [name: string, version: string, length: number] | null,
  ])[]
  readonly aliases: readonly (readonly [alias: string, claimants: readonly string[]])[]
}

/** In which page a name is, and what stands for it there: two 32-bit FNV-1a hashes, one of them from the end of the name. */
export function placeOf(name: string): { readonly page: number; readonly print: number } {
  let [a, b] = [0x811c9dc5, 0x9e3779b9]
  for (let i = 0; i < name.length; i++) {
    a = Math.imul(a ^ name.charCodeAt(i), 0x01000193)
    b = Math.imul(b ^ name.charCodeAt(name.length - 1 - i), 0x01000193)
  }
  return { page: (a ^ (a >>> 16)) & (PAGES - 1), print: b >>> 0 }
}

/** The same bytes for the same content, whatever its order. */
export function encodePage({ upstreams, aliases, secrets }: PageContent): Uint8Array {
  const sorted = [...upstreams.values()].sort((x, y) => (x.cluster.name < y.cluster.name ? -1 : 1))
  const about = ({ name, version, body }: PackedResource) => [name, version, body.length] as const
  const index: Index = {
    upstreams: sorted.map(({ cluster, endpoints }) => [about(cluster), endpoints ? about(endpoints) : null]),
    aliases: [...aliases].sort(([x], [y]) => (x < y ? -1 : 1)).map(([alias, all]) => [alias, all.toSorted()]),
  }
  const bodies = sorted.flatMap(({ cluster, endpoints }) => [
    cluster.body,
    ...(endpoints ? [endpoints.body] : []),
  ])
  const packed = deflateRawSync(Buffer.concat([...lengthFirst(index), ...bodies]), { level: 1 })
  const names = [...upstreams.keys(), ...aliases.keys()]
  const prints = new Uint32Array(new Set(names.map((name) => placeOf(name).print))).sort()
  const head: Head = { secrets: secrets.toSorted() }
  const marks = Buffer.alloc(4 * (1 + prints.length))
  marks.writeUInt32LE(prints.length)
  for (const [i, print] of prints.entries()) marks.writeUInt32LE(print, 4 * (i + 1))
  return Buffer.concat([...lengthFirst(head), marks, packed])
}

/** The SDS names that the upstreams in a page refer to. Throws where the bytes are no page. */
export function secretsOf(bytes: Uint8Array): readonly string[] {
  return readJson<Head>(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)).value.secrets
}

/** A page as a worker has it. */
export class UpstreamPage {
  readonly secrets: readonly string[]
  readonly #prints: Uint32Array
  readonly #packed: Uint8Array
  /** What was asked for and is there: an alias leads to its upstream without unpacking. */
  readonly #found = new Map<string, readonly string[]>()

  /** Throws where the bytes are no page. */
  constructor(bytes: Uint8Array) {
    const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    const { value, end } = readJson<Head>(buffer)
    this.secrets = value.secrets
    const count = buffer.readUInt32LE(end)
    const packedAt = end + 4 * (count + 1)
    if (packedAt > buffer.length) throw new Error('is cut short')
    // Both ends are on one machine, and all that we run on are little-endian.
    this.#prints = new Uint32Array(count)
    new Uint8Array(this.#prints.buffer).set(buffer.subarray(end + 4, packedAt))
    this.#packed = buffer.subarray(packedAt)
  }

  /** The upstreams that a name may mean: the one that is called so, or those that claim it as an alias; empty for none. */
  find(name: string, print = placeOf(name).print): readonly string[] {
    // Whether a name is there is known without unpacking: a flood of names that are not costs no more than a hash.
    if (!this.#prints.includes(print)) return NOBODY
    let found = this.#found.get(name)
    if (found === undefined) {
      const { upstreams, aliases } = this.read()
      found = upstreams.has(name) ? [name] : (aliases.get(name) ?? NOBODY)
      if (found.length > 0) this.#found.set(name, found)
    }
    return found
  }

  /** Unpacks everything. */
  read(): PageContent {
    const buffer = inflateRawSync(this.#packed)
    const { value: index, end } = readJson<Index>(buffer)
    let at = end
    const take = ([name, version, length]: readonly [string, string, number]): PackedResource => {
      const body = buffer.subarray(at, at + length)
      at += length
      return { name, version, body }
    }
    const upstreams = index.upstreams.map(([cluster, endpoints]): [string, PackedUpstream] => [
      cluster[0],
      { cluster: take(cluster), endpoints: endpoints === null ? undefined : take(endpoints) },
    ])
    return {
      upstreams: new Map(upstreams),
      aliases: new Map(index.aliases),
      secrets: this.secrets,
    }
  }
}

const NOBODY: readonly string[] = []

function lengthFirst(value: unknown): [Buffer, Buffer] {
  const text = Buffer.from(JSON.stringify(value))
  const length = Buffer.alloc(4)
  length.writeUInt32LE(text.length)
  return [length, text]
}

function readJson<T>(buffer: Buffer): { readonly value: T; readonly end: number } {
  const end = 4 + buffer.readUInt32LE(0)
  return { value: JSON.parse(buffer.toString('utf8', 4, end)) as T, end }
}
