import type { BalancingConfig } from '../../resources/upstream-types.ts'
import { murmurHash2, xxHash64 } from './hash.ts'
import type { Candidate } from './pickers.ts'

/** An endpoint and its share of the traffic; the shares of a table add up to 1. */
export interface Share<E> {
  readonly endpoint: E
  readonly share: number
}

/** Maps a hash to an endpoint, the same one as long as it is there, with chances by weight. */
export interface HashTable<E> {
  /** The endpoint of a hash; where it was tried before, the next one on from there. */
  find(hash: bigint, tried: ReadonlySet<E>): E | undefined
}

/** Built as Envoy builds its own, entry by entry, so that a hash leads to the same endpoint there and here. */
export function hashTableOf<E extends Candidate>(
  shares: readonly Share<E>[],
  config: BalancingConfig,
): HashTable<E> {
  return config.policy === 'MAGLEV' ? maglev(shares, config) : ring(shares, config)
}

function ring<E extends Candidate>(
  shares: readonly Share<E>[],
  { minimumRingSize, maximumRingSize, hashFunction }: BalancingConfig,
): HashTable<E> {
  const least = shares.reduce((least, { share }) => Math.min(least, share), 1)
  // The least endpoint gets a whole number of places.
  const scale = Math.min(Math.ceil(least * minimumRingSize) / least, maximumRingSize)
  const hashOf = hashFunction === 'XX_HASH' ? xxHash64 : murmurHash2
  const places: { readonly hash: bigint; readonly endpoint: E }[] = []
  let target = 0
  for (const { endpoint, share } of shares) {
    target += scale * share
    for (let i = 0; places.length < target; i += 1)
      places.push({ hash: hashOf(`${endpoint.hashKey}_${i}`), endpoint })
  }
  places.sort((a, b) => (a.hash < b.hash ? -1 : a.hash > b.hash ? 1 : 0))
  const hashes = BigUint64Array.from(places, ({ hash }) => hash)
  const endpoints = places.map(({ endpoint }) => endpoint)
  return { find: (hash, tried) => walk(endpoints, firstAtLeast(hashes, hash), tried) }
}

/** Index of the first entry that is not less; 0 after the last, for a ring has no end. */
function firstAtLeast(sorted: BigUint64Array, value: bigint): number {
  let [low, high] = [0, sorted.length]
  while (low < high) {
    const middle = (low + high) >> 1
    if ((sorted[middle] ?? 0n) < value) low = middle + 1
    else high = middle
  }
  return low === sorted.length ? 0 : low
}

function maglev<E extends Candidate>(
  unsorted: readonly Share<E>[],
  { tableSize }: BalancingConfig,
): HashTable<E> {
  // Whose turn it is first decides who gets a place that two want: it must not hang on the order of the assignment.
  const shares = unsorted.toSorted((a, b) => (a.endpoint.hashKey < b.endpoint.hashKey ? -1 : 1))
  const size = BigInt(tableSize)
  const greatest = shares.reduce((greatest, { share }) => Math.max(greatest, share), 0)
  const entries = shares.map(({ endpoint: { hashKey }, share }) => ({
    offset: Number(xxHash64(hashKey) % size),
    skip: Number(xxHash64(hashKey, 1n) % (size - 1n)) + 1,
    share,
    owed: 0,
    next: 0,
  }))
  const table = new Int32Array(tableSize).fill(-1)
  for (let filled = 0, iteration = 1; filled < tableSize && entries.length > 0; iteration += 1) {
    for (const [index, entry] of entries.entries()) {
      if (filled === tableSize) break
      // Who weighs a third of the greatest has a turn in every third round.
      if (iteration * entry.share < entry.owed) continue
      entry.owed += greatest
      let place = (entry.offset + entry.skip * entry.next) % tableSize
      while (table[place] !== -1) {
        entry.next += 1
        place = (entry.offset + entry.skip * entry.next) % tableSize
      }
      table[place] = index
      entry.next += 1
      filled += 1
    }
  }
  const endpoints = shares.map(({ endpoint }) => endpoint)
  const at = (place: number): E | undefined => endpoints[table[place] ?? -1]
  return {
    find(hash, tried) {
      const from = Number(hash % size)
      for (let step = 0; step < tableSize; step += 1) {
        const endpoint = at((from + step) % tableSize)
        if (endpoint === undefined || !tried.has(endpoint)) return endpoint
      }
      return undefined
    },
  }
}

function walk<E>(endpoints: readonly E[], from: number, tried: ReadonlySet<E>): E | undefined {
  for (let step = 0; step < endpoints.length; step += 1) {
    const endpoint = endpoints[(from + step) % endpoints.length]
    if (endpoint !== undefined && !tried.has(endpoint)) return endpoint
  }
  return undefined
}
