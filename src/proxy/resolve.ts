import { lookup } from 'node:dns/promises'
import { readFile } from 'node:fs/promises'
import { isIP } from 'node:net'
import type { Clock } from '../lib/clock.ts'
import type { DnsConfig } from '../resources/upstream-types.ts'
import { ProbeGate } from './health/probe-gate.ts'
import type { Authority } from './names/authority.ts'
import { type DnsAddress, DnsClient } from './names/dns-client.ts'
import { parseResolvConf } from './names/resolv-conf.ts'

export interface Resolved {
  /** Empty: the name is known to have none. */
  readonly addresses: readonly string[]
  /** The least of the records' TTLs; undefined where it is not known (hosts file). */
  readonly ttlMs: number | undefined
}

/** The addresses of a host name. Rejects where nobody could say: the server is gone, or fails. */
export type Resolve = (host: string, family: DnsConfig['family']) => Promise<Resolved>

export interface ResolverOptions {
  /** Default: those of the system. */
  readonly servers?: readonly Authority[]
  /** How long one server may take. */
  readonly timeoutMs?: number
  /** Default `/etc/hosts`. */
  readonly hostsFile?: string
}

/**
 * As the system does it, but with TTLs: the hosts file, then DNS; a name that DNS does not know as it is goes to the system's own
 * look-up, which knows search domains.
 */
export function createResolve(options: ResolverOptions = {}): Resolve {
  const { servers, timeoutMs, hostsFile = '/etc/hosts' } = options
  return async (host, family) => {
    const listed = await fromHostsFile(hostsFile, host)
    if (listed.length > 0) return { addresses: choose(listed, family), ttlMs: undefined }
    const asked = servers ?? parseResolvConf(await textOf('/etc/resolv.conf'))
    if (asked.length === 0) return fromSystem(host, family)
    const client = new DnsClient(asked, timeoutMs)
    const answers = await byFamily(host, family, (name, version) =>
      client.addresses(name, version === 4 ? 'A' : 'AAAA'),
    )
    if (answers.length > 0)
      return {
        addresses: answers.map(({ address }) => address),
        ttlMs: Math.min(...answers.map(({ ttl }) => ttl)) * 1_000,
      }
    return servers === undefined ? fromSystem(host, family) : { addresses: [], ttlMs: undefined }
  }
}

/** AUTO is Envoy's: IPv6, and IPv4 where there is none. */
async function byFamily(
  host: string,
  family: DnsConfig['family'],
  ask: (host: string, family: 4 | 6) => Promise<readonly DnsAddress[]>,
): Promise<readonly DnsAddress[]> {
  switch (family) {
    case 'V4_ONLY':
      return ask(host, 4)
    case 'V6_ONLY':
      return ask(host, 6)
    case 'ALL': {
      const both = await Promise.allSettled([ask(host, 4), ask(host, 6)])
      const found = both.flatMap((answer) => (answer.status === 'fulfilled' ? answer.value : []))
      const failed = both.find((answer) => answer.status === 'rejected')
      // Half an answer is one; no answer and a failure is a failure.
      if (found.length === 0 && failed !== undefined) throw failed.reason
      return found
    }
    default: {
      const [first, second]: readonly (4 | 6)[] = family === 'AUTO' ? [6, 4] : [4, 6]
      let failure: unknown
      for (const one of [first, second]) {
        try {
          const found = await ask(host, one ?? 4)
          if (found.length > 0) return found
        } catch (error) {
          failure ??= error
        }
      }
      if (failure !== undefined) throw failure
      return []
    }
  }
}

/** Addresses of a kind out of some of both. */
function choose(addresses: readonly string[], family: DnsConfig['family']): readonly string[] {
  const [v4, v6] = [4, 6].map((version) => addresses.filter((address) => isIP(address) === version))
  const [four, six] = [v4 ?? [], v6 ?? []]
  if (family === 'V4_ONLY') return four
  if (family === 'V6_ONLY') return six
  if (family === 'ALL') return addresses
  const [first, second] = family === 'AUTO' ? [six, four] : [four, six]
  return first.length > 0 ? first : second
}

async function fromHostsFile(path: string, host: string): Promise<string[]> {
  const text = await textOf(path)
  const name = host.toLowerCase()
  return text.split('\n').flatMap((line) => {
    const [address = '', ...names] = line.replace(/#.*$/, '').trim().split(/\s+/)
    return isIP(address) !== 0 && names.some((each) => each.toLowerCase() === name) ? [address] : []
  })
}

/** Empty where there is no such file. */
async function textOf(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8')
  } catch {
    return ''
  }
}

/** Answers that say that there is nothing, and not that nobody knows. */
const NOTHING_THERE = new Set(['ENOTFOUND', 'ENODATA'])

async function fromSystem(host: string, family: DnsConfig['family']): Promise<Resolved> {
  try {
    const found = await lookup(host, { all: true, order: 'ipv4first' })
    return {
      addresses: choose(
        found.map(({ address }) => address),
        family,
      ),
      ttlMs: undefined,
    }
  } catch (error) {
    if (NOTHING_THERE.has((error as NodeJS.ErrnoException).code ?? ''))
      return { addresses: [], ttlMs: undefined }
    throw error
  }
}

/** How long one answer serves everybody who asks; far less than any TTL. */
const SHARED_MS = 100
/** Names that are asked for at one time: each has a socket of its own. */
const IN_FLIGHT = 64

/** Upstreams by the hundred name the same gateways: who asks at about the same time gets the same answer. */
export function shared(resolve: Resolve, clock: Clock): Resolve {
  const answers = new Map<string, Promise<Resolved>>()
  const gate = new ProbeGate(IN_FLIGHT)
  return (host, family) => {
    const key = `${family} ${host}`
    const known = answers.get(key)
    if (known !== undefined) return known
    const answer = gate.enter().then(() => resolve(host, family).finally(() => gate.leave()))
    answers.set(key, answer)
    const forget = () => answers.delete(key)
    answer.then(() => clock.after(SHARED_MS, forget), forget)
    return answer
  }
}
