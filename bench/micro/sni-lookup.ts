// From a server name to its filter chain and upstream, with one route and with ten thousand.
import { FilterChainIndex } from '../../src/proxy/filter-chain-match.ts'
import { UpstreamNames } from '../../src/proxy/upstream-names.ts'
import type { Micro } from './micro.ts'

const MANY = 10_000
/** Of the many, spread over them: as many as may be asked for in a while. */
const ASKED = 64
const ALPN = ['istio']

const serverName = (i: number): string => `outbound_.9080_._.service-${i}.ns-${i % 50}.svc.cluster.local`
const alias = (i: number): string => `service-${i}.ns-${i % 50}.svc.cluster.local:9080`

/** Every route with a filter chain of its own, as those in passthrough have, under all its names. */
function routes(count: number): { chains: FilterChainIndex<string>; names: UpstreamNames } {
  const chains = new FilterChainIndex<string>()
  const names = new UpstreamNames()
  for (let i = 0; i < count; i++) {
    const name = serverName(i)
    names.set({ name, aliases: [alias(i)] })
    chains.set({ serverNames: [name, alias(i)], transportProtocol: 'tls', applicationProtocols: ALPN }, name)
  }
  return { chains, names }
}

function lookup(count: number, nameOf: (i: number) => string): Micro['once'] {
  const { chains, names } = routes(count)
  const hellos = Array.from({ length: ASKED }, (_, i) => ({
    sni: nameOf(Math.floor((i * count) / ASKED)),
    alpn: ALPN,
  }))
  let next = 0
  return () => {
    next = (next + 1) % ASKED
    const hello = hellos[next] as (typeof hellos)[number]
    return chains.find(hello) === undefined ? undefined : names.find(hello.sni)
  }
}

export function sniLookupMicros(): Micro[] {
  const beside = 'SNI lookup, 1 route'
  return [
    { name: beside, once: lookup(1, serverName) },
    { name: 'SNI lookup, 10,000 routes', beside, once: lookup(MANY, serverName) },
    { name: 'SNI lookup by alias, 10,000 routes', beside, once: lookup(MANY, alias) },
    {
      name: 'SNI lookup of an unknown name, 10,000 routes',
      beside,
      once: lookup(MANY, (i) => `x${alias(i)}`),
    },
  ]
}
