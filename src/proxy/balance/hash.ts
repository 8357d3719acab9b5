// The two hash functions of Envoy's consistent hashing, so that rings and tables come out as there.

const MASK = (1n << 64n) - 1n
const PRIME_1 = 0x9e3779b185ebca87n
const PRIME_2 = 0xc2b2ae3d27d4eb4fn
const PRIME_3 = 0x165667b19e3779f9n
const PRIME_4 = 0x85ebca77c2b2ae63n
const PRIME_5 = 0x27d4eb2f165667c5n

const times = (a: bigint, b: bigint): bigint => (a * b) & MASK
const plus = (a: bigint, b: bigint): bigint => (a + b) & MASK
const rotate = (value: bigint, by: bigint): bigint => ((value << by) | (value >> (64n - by))) & MASK
const round = (state: bigint, input: bigint): bigint =>
  times(rotate(plus(state, times(input, PRIME_2)), 31n), PRIME_1)
const merge = (hash: bigint, state: bigint): bigint => plus(times(hash ^ round(0n, state), PRIME_1), PRIME_4)

/** xxHash64 of a text's UTF-8 bytes. */
export function xxHash64(text: string, seed = 0n): bigint {
  const bytes = Buffer.from(text)
  let at = 0
  let hash: bigint
  if (bytes.length >= 32) {
    let [a, b, c, d] = [
      plus(plus(seed, PRIME_1), PRIME_2),
      plus(seed, PRIME_2),
      seed,
      (seed - PRIME_1) & MASK,
    ]
    for (; at + 32 <= bytes.length; at += 32) {
      a = round(a, bytes.readBigUInt64LE(at))
      b = round(b, bytes.readBigUInt64LE(at + 8))
      c = round(c, bytes.readBigUInt64LE(at + 16))
      d = round(d, bytes.readBigUInt64LE(at + 24))
    }
    hash = plus(plus(rotate(a, 1n), rotate(b, 7n)), plus(rotate(c, 12n), rotate(d, 18n)))
    for (const state of [a, b, c, d]) hash = merge(hash, state)
  } else {
    hash = plus(seed, PRIME_5)
  }
  hash = plus(hash, BigInt(bytes.length))
  for (; at + 8 <= bytes.length; at += 8) {
    hash ^= round(0n, bytes.readBigUInt64LE(at))
    hash = plus(times(rotate(hash, 27n), PRIME_1), PRIME_4)
  }
  for (; at + 4 <= bytes.length; at += 4) {
    hash ^= times(BigInt(bytes.readUInt32LE(at)), PRIME_1)
    hash = plus(times(rotate(hash, 23n), PRIME_2), PRIME_3)
  }
  for (; at < bytes.length; at += 1) {
    hash ^= times(BigInt(bytes[at] ?? 0), PRIME_5)
    hash = times(rotate(hash, 11n), PRIME_1)
  }
  hash = times(hash ^ (hash >> 33n), PRIME_2)
  hash = times(hash ^ (hash >> 29n), PRIME_3)
  return hash ^ (hash >> 32n)
}

const MULTIPLIER = 0xc6a4a7935bd1e995n
/** The seed of GNU libstdc++'s `std::hash`, which Envoy's MURMUR_HASH_2 is. */
const STD_HASH_SEED = 0xc70f6907n
const shiftMix = (value: bigint): bigint => value ^ (value >> 47n)

/** MurmurHash2, 64 bits, as GNU libstdc++ has it. */
export function murmurHash2(text: string, seed = STD_HASH_SEED): bigint {
  const bytes = Buffer.from(text)
  let hash = seed ^ times(BigInt(bytes.length), MULTIPLIER)
  let at = 0
  for (; at + 8 <= bytes.length; at += 8) {
    const data = times(shiftMix(times(bytes.readBigUInt64LE(at), MULTIPLIER)), MULTIPLIER)
    hash = times(hash ^ data, MULTIPLIER)
  }
  if (at < bytes.length) {
    let tail = 0n
    for (let last = bytes.length - 1; last >= at; last -= 1) tail = (tail << 8n) | BigInt(bytes[last] ?? 0)
    hash = times(hash ^ tail, MULTIPLIER)
  }
  return shiftMix(times(shiftMix(hash), MULTIPLIER))
}
