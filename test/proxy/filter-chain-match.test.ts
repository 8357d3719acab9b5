import fc from 'fast-check'
import t from 'tap'
import { FilterChainIndex } from '../../src/proxy/filter-chain-match.ts'
import type { FilterChainMatch } from '../../src/resources/accept-types.ts'

interface Chain {
  readonly name: string
  readonly match: FilterChainMatch
}

const match = (over: Partial<FilterChainMatch> = {}): FilterChainMatch => ({
  serverNames: [],
  transportProtocol: '',
  applicationProtocols: [],
  ...over,
})

function find(
  chains: readonly Chain[],
  sni: string | undefined,
  alpn: readonly string[],
): string | undefined {
  const index = new FilterChainIndex<string>()
  for (const chain of chains) index.set(chain.match, chain.name)
  return index.find({ sni, alpn })
}

/** Envoy's order told the slow way: narrow by one level after the other, never going back. */
function slowFind(chains: readonly Chain[], sni: string, alpn: readonly string[]): string | undefined {
  const named = chains.filter((chain) => chain.match.serverNames.includes(sni))
  const byName = named.length > 0 ? named : chains.filter((chain) => chain.match.serverNames.length === 0)
  const tls = byName.filter((chain) => chain.match.transportProtocol === 'tls')
  const byTransport = tls.length > 0 ? tls : byName.filter((chain) => chain.match.transportProtocol === '')
  for (const protocol of alpn) {
    const chosen = byTransport.find((chain) => chain.match.applicationProtocols.includes(protocol))
    if (chosen !== undefined) return chosen.name
  }
  return byTransport.find((chain) => chain.match.applicationProtocols.length === 0)?.name
}

t.test('the most specific level decides, and there is no way back', async (t) => {
  const chains: Chain[] = [
    { name: 'every', match: match({ transportProtocol: 'tls' }) },
    {
      name: 'mesh',
      match: match({
        serverNames: ['a', 'b'],
        transportProtocol: 'tls',
        applicationProtocols: ['istio', 'istio-h2'],
      }),
    },
    { name: 'own', match: match({ serverNames: ['c'] }) },
  ]
  t.equal(find(chains, 'a', ['h2', 'istio']), 'mesh')
  t.equal(find(chains, 'b', ['istio-h2']), 'mesh')
  t.equal(find(chains, 'a', ['h2']), undefined, 'not the chain of every name')
  t.equal(find(chains, 'a', []), undefined)
  t.equal(find(chains, 'c', ['istio']), 'own')
  t.equal(find(chains, 'd', ['istio']), 'every')
  t.equal(find(chains, undefined, []), 'every')
  t.equal(find([], 'a', []), undefined)
})

t.test('as the slow reference, for any chains and clients', async () => {
  const names = fc.uniqueArray(fc.constantFrom('a', 'b', 'c'), { maxLength: 2 })
  const protocols = fc.uniqueArray(fc.constantFrom('x', 'y', 'z'), { maxLength: 2 })
  const chain = fc.record({
    serverNames: names,
    transportProtocol: fc.constantFrom('' as const, 'tls' as const),
    applicationProtocols: protocols,
  })
  const keys = ({ serverNames, transportProtocol, applicationProtocols }: FilterChainMatch): string[] =>
    (serverNames.length === 0 ? [''] : serverNames).flatMap((name) =>
      (applicationProtocols.length === 0 ? [''] : applicationProtocols).map(
        (protocol) => `${name} ${transportProtocol} ${protocol}`,
      ),
    )
  fc.assert(
    fc.property(
      fc.array(chain, { maxLength: 6 }),
      fc.constantFrom('a', 'b', 'd'),
      protocols,
      (matches, sni, alpn) => {
        // Two chains that match the same are refused before they come here.
        const taken = new Set<string>()
        const chains = matches.flatMap((each, i): Chain[] => {
          if (keys(each).some((key) => taken.has(key))) return []
          for (const key of keys(each)) taken.add(key)
          return [{ name: `chain-${i}`, match: each }]
        })
        return find(chains, sni, alpn) === slowFind(chains, sni, alpn)
      },
    ),
    { seed: 7, numRuns: 500 },
  )
})
