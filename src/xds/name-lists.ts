// A thousand clients ask for the same thousand names. Their requests are told apart by their bytes, and a list that was read
// before is neither decoded nor kept again: all who sent it share one.

/** Tag of field 3, length-delimited: a name, in both variants of the request. */
const NAME = 0x1a
/** Lists of fewer bytes are not worth it. */
const MIN_BYTES = 1_024
const MAX_BYTES = 1 << 20
const KEPT = 8

interface NameList {
  readonly bytes: Uint8Array
  readonly names: readonly string[]
}

const kept: NameList[] = []
const sets = new WeakMap<readonly string[], ReadonlySet<string>>()

/** The names of a request that stand one after the other. */
export interface NameRun {
  readonly start: number
  readonly end: number
  /** Of a list that was read before. */
  readonly names: readonly string[] | undefined
}

/** Finds the first run of names in a request that is long enough; undefined where there is none. */
export function findNames(bytes: Uint8Array): NameRun | undefined {
  if (bytes.length < MIN_BYTES) return undefined
  let at = 0
  let start = -1
  while (at < bytes.length) {
    const isName = bytes[at] === NAME
    if (start >= 0 && !isName) break
    if (isName && start < 0) start = at
    const next = skipField(bytes, at)
    if (next === undefined) return undefined
    at = next
  }
  if (start < 0 || at - start < MIN_BYTES || at - start > MAX_BYTES) return undefined
  return { start, end: at, names: known(bytes.subarray(start, at)) }
}

/** Keeps the list that these bytes say. */
export function keepNames(bytes: Uint8Array, names: readonly string[]): void {
  sets.set(names, new Set(names))
  if (kept.unshift({ bytes: new Uint8Array(bytes), names }) > KEPT) kept.pop()
}

/** The set of a list that is shared; undefined for any other, and for one that holds a name twice. */
export function sharedSet(names: readonly string[]): ReadonlySet<string> | undefined {
  const set = sets.get(names)
  return set?.size === names.length ? set : undefined
}

function known(bytes: Uint8Array): readonly string[] | undefined {
  const index = kept.findIndex(
    (one) => one.bytes.length === bytes.length && Buffer.compare(one.bytes, bytes) === 0,
  )
  const found = kept[index]
  if (found !== undefined && index > 0) kept.unshift(...kept.splice(index, 1))
  return found?.names
}

/** Where the field that begins here ends; undefined unless it is length-delimited, with a one-byte tag, and all there. */
function skipField(bytes: Uint8Array, at: number): number | undefined {
  const tag = bytes[at] ?? 0
  if ((tag & 0x87) !== 2) return undefined
  let length = 0
  let next = at + 1
  for (let shift = 0; shift < 28; shift += 7) {
    const byte = bytes[next++]
    if (byte === undefined) return undefined
    length |= (byte & 0x7f) << shift
    if (byte < 0x80) return next + length <= bytes.length ? next + length : undefined
  }
  return undefined
}
