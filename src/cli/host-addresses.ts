import type { HostAddresses } from '../discovery/host-names.ts'
import { systemClock } from '../lib/clock.ts'
import type { Logger } from '../lib/log.ts'
import { forbiddenAddress } from '../proxy/forbidden-address.ts'
import { createResolve, type Resolve } from '../proxy/resolve.ts'
import { NameResolver } from '../proxy/resolver.ts'
import type { DnsConfig } from '../resources/upstream-types.ts'

/** As our sidecars ask: every address, again when the answer's TTL is over, at the latest where it has none. */
const DNS: DnsConfig = {
  refreshMs: 5_000,
  failureBaseMs: 1_000,
  failureMaxMs: 30_000,
  respectTtl: true,
  family: 'ALL',
}

export interface HostAddressesOptions {
  readonly logger: Logger
  readonly resolve?: Resolve
  /** Names may resolve to loopback, link-local and metadata addresses: for one machine that plays many. */
  readonly allowLocal: boolean
}

/** Host names as the proxies resolve them: with TTLs, the last good answer kept, and no address that no endpoint may have. */
export function hostAddresses(options: HostAddressesOptions): (onChange: () => void) => HostAddresses {
  return (onChange) => {
    const { logger, resolve = createResolve(), allowLocal } = options
    const resolver = new NameResolver({ resolve, logger, clock: systemClock, random: Math.random, onChange })
    return {
      watch: (hosts) => resolver.watch(hosts, DNS),
      addresses: (host) =>
        resolver.addresses(host).filter((address) => allowLocal || forbiddenAddress(address) === undefined),
      stop: () => resolver.close(),
    }
  }
}
