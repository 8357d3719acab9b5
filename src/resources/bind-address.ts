import { createHash } from 'node:crypto'
import { isIPv4 } from 'node:net'
import { fail, ok, type Result } from '../lib/result.ts'

/** An IPv4 range: `first` is its network address as a number. */
export interface BindRange {
  readonly first: number
  readonly size: number
}

/** Reads `127.240.0.0/16`: IPv4, prefix 8–30, host bits zero. */
export function parseBindRange(cidr: string): Result<BindRange, string> {
  const match = /^(\d+\.\d+\.\d+\.\d+)\/(\d{1,2})$/.exec(cidr)
  const address = match?.[1] ?? ''
  const bits = Number(match?.[2])
  if (!isIPv4(address) || !(bits >= 8 && bits <= 30)) {
    return fail(`"${cidr}": expected an IPv4 range such as 127.240.0.0/16, prefix length 8 to 30`)
  }
  const size = 2 ** (32 - bits)
  const first = toNumber(address)
  if (first % size !== 0)
    return fail(
      `"${cidr}": bits are set beyond the prefix, the range begins at ${toAddress(first - (first % size))}`,
    )
  return ok({ first, size })
}

/**
 * Gives each host an address in the range, the first and the last left out: the hash of its name, and the next free one where
 * two meet. Equal sets give equal addresses, whatever their order; a new host moves another only where their hashes meet.
 * Hosts beyond the range's size get none. Those of `first` choose before the others, who so cannot move or displace them: what
 * another cluster calls its services is its own affair.
 */
export function bindAddresses(
  hosts: Iterable<string>,
  range: BindRange,
  first: ReadonlySet<string> = new Set(),
): ReadonlyMap<string, string> {
  const usable = range.size - 2
  const taken = new Set<number>()
  const found = new Map<string, string>()
  const sorted = [...new Set(hosts)].sort()
  for (const host of [
    ...sorted.filter((each) => first.has(each)),
    ...sorted.filter((each) => !first.has(each)),
  ]) {
    if (taken.size === usable) break
    let slot = createHash('sha256').update(host).digest().readUInt32BE(0) % usable
    while (taken.has(slot)) slot = (slot + 1) % usable
    taken.add(slot)
    found.set(host, toAddress(range.first + 1 + slot))
  }
  return found
}

function toNumber(address: string): number {
  return address.split('.').reduce((sum, part) => sum * 256 + Number(part), 0)
}

function toAddress(value: number): string {
  return [24, 16, 8, 0].map((shift) => Math.floor(value / 2 ** shift) % 256).join('.')
}
