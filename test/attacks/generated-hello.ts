// ClientHellos from a grammar, and ways of damaging them that shrink to something readable.
import { createHash } from 'node:crypto'
import fc from 'fast-check'
import {
  alpn,
  extension,
  fragment,
  handshake,
  helloBody,
  hostName,
  padding,
  serverNames,
  sni,
  supportedVersions,
  usualExtensions,
} from './hello.ts'

export type Damage =
  | { readonly kind: 'set'; readonly at: number; readonly byte: number }
  | { readonly kind: 'cut'; readonly at: number }
  | { readonly kind: 'drop'; readonly at: number; readonly length: number }
  | { readonly kind: 'repeat'; readonly at: number; readonly length: number }
  | { readonly kind: 'insert'; readonly at: number; readonly bytes: Uint8Array }

export interface HelloRecipe {
  readonly name: string
  readonly names: 'one' | 'none' | 'two' | 'twice' | 'empty'
  readonly version: number
  readonly versions: readonly number[]
  readonly protocols: readonly string[]
  readonly sessionId: number
  readonly extra: readonly { readonly type: number; readonly length: number }[]
  readonly padding: number
  readonly shuffle: number
  readonly recordSize: number
  /** Bytes of each TCP segment. */
  readonly segment: number
  readonly damage: readonly unknown[]
}

/** Positions in thousandths, so that they stay inside whatever the length is. */
const at = fc.nat(999)
const damage: fc.Arbitrary<Damage> = fc.oneof(
  { weight: 5, arbitrary: fc.record({ kind: fc.constant('set' as const), at, byte: fc.nat(255) }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('cut' as const), at }) },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant('drop' as const), at, length: fc.integer({ min: 1, max: 40 }) }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('repeat' as const),
      at,
      length: fc.integer({ min: 1, max: 200 }),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('insert' as const),
      at,
      bytes: fc.uint8Array({ minLength: 1, maxLength: 20 }),
    }),
  },
)

/** One of some values, the first of each group being its weight. */
function weighted<T>(...groups: readonly (readonly [number, ...T[]])[]): fc.Arbitrary<T> {
  return fc.oneof(
    ...groups.map(([weight, ...values]) => ({ weight, arbitrary: fc.constantFrom<T>(...values) })),
  )
}

export function helloRecipe(served: readonly string[]): fc.Arbitrary<HelloRecipe> {
  return fc.record({
    name: weighted([6, ...served], [1, 'x.example', '', `${served[0]}.`]),
    names: weighted<HelloRecipe['names']>([16, 'one'], [1, 'none', 'two', 'twice', 'empty']),
    version: weighted([8, 0x0303], [1, 0x0302, 0x0300, 0x0304, 0x7f00]),
    versions: weighted<readonly number[]>(
      [5, [0x0304, 0x0303], [0x0304]],
      [1, [0x0303], [0x0302], [0x1a1a, 0x0304], []],
    ),
    protocols: fc.constantFrom([], ['istio'], ['h2', 'istio'], ['istio-peer-exchange']),
    sessionId: weighted([9, 32, 0], [1, 33, 255]),
    extra: fc.array(fc.record({ type: fc.nat(0xffff), length: fc.nat(64) }), { maxLength: 2 }),
    padding: weighted([9, 0, 500], [1, 16_000, 17_000, 60_000]),
    shuffle: fc.nat(1_000),
    recordSize: weighted([6, 16_384, 1_000, 100], [1, 20, 1]),
    segment: fc.constantFrom(100_000, 100_000, 1_000, 50, 7),
    damage: fc.array(damage, { maxLength: 2 }),
  })
}

/** The bytes of a recipe before the damage; the same for the same recipe. */
export function prepared(recipe: HelloRecipe): Buffer {
  const { name, names } = recipe
  const entry = hostName(name)
  const nameExtensions: Record<HelloRecipe['names'], readonly Buffer[]> = {
    one: [sni(name)],
    none: [],
    two: [serverNames(entry, hostName('x.example'))],
    twice: [sni(name), sni(name)],
    empty: [serverNames()],
  }
  const extensions = [
    ...nameExtensions[names],
    ...usualExtensions().filter((bytes) => bytes.readUInt16BE(0) !== 43),
    ...(recipe.versions.length > 0 ? [supportedVersions(...recipe.versions)] : []),
    ...(recipe.protocols.length > 0 ? [alpn(...recipe.protocols)] : []),
    ...recipe.extra.map(({ type, length }) => extension(type, Buffer.alloc(length, type & 0xff))),
    ...(recipe.padding > 0 ? [padding(recipe.padding)] : []),
  ]
  const key = (bytes: Buffer) =>
    createHash('sha256')
      .update(`${recipe.shuffle} ${bytes.toString('hex')}`)
      .digest('hex')
  if (recipe.shuffle > 0) extensions.sort((a, b) => (key(a) < key(b) ? -1 : 1))
  const body = helloBody({
    version: recipe.version,
    random: Buffer.alloc(32, 7),
    sessionId: Buffer.alloc(recipe.sessionId, 8),
    extensions,
  })
  return fragment(handshake(1, body), recipe.recordSize)
}

export function damaged(bytes: Buffer, damage: readonly Damage[]): Buffer {
  return damage.reduce((hello, each) => damageOnce(hello, each), bytes)
}

function damageOnce(bytes: Buffer, damage: Damage): Buffer {
  const position = Math.floor((damage.at * bytes.length) / 1_000)
  const [before, after] = [bytes.subarray(0, position), bytes.subarray(position)]
  switch (damage.kind) {
    case 'set':
      return Buffer.concat([before, Buffer.from([damage.byte]), after.subarray(1)])
    case 'cut':
      return before
    case 'drop':
      return Buffer.concat([before, after.subarray(damage.length)])
    case 'repeat':
      return Buffer.concat([before, after.subarray(0, damage.length), after])
    case 'insert':
      return Buffer.concat([before, damage.bytes, after])
  }
}
