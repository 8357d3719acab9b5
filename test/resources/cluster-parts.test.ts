// A Cluster whose common part was read before is read as one that is read whole.
import fc from 'fast-check'
import t from 'tap'
import { acceptUpstream, acceptWholeUpstream, CLUSTER_FIELDS } from '../../src/resources/accept-upstream.ts'
import { knownCluster } from '../../src/resources/cluster-parts.ts'
import type { XdsResource } from '../../src/xds/types.ts'
import { upstream } from '../proxy/support.ts'
import { clusterOf } from '../proxy/upstream-resource.ts'

const id = (name: string) => `spiffe://cluster-1.example/ns/shop/sa/${name}`
const corpus: readonly XdsResource[] = [
  upstream('a'),
  upstream('b', { aliases: ['b.shop', 'b.shop:80'] }),
  upstream('c', { pins: [id('c')], sni: 'c' }),
  clusterOf('d', {
    outlierDetection: {
      interval: '1s',
      consecutiveLocalOriginFailure: 3,
      splitExternalLocalOriginErrors: true,
    },
    circuitBreakers: { thresholds: [{ maxConnections: 7 }] },
  }),
  clusterOf('e', { edsClusterConfig: { serviceName: 'other', edsConfig: { ads: {} } } }),
  // Refused: a field that is not ours, in the common part and in what each has by itself.
  clusterOf('f', { waitForWarmOnInit: true }),
  clusterOf('g', { edsClusterConfig: { edsConfig: { path: '/x' } } }),
  clusterOf('h', { connectTimeout: '-1s' }),
]

t.test('what is accepted, and what is refused with which words', async (t) => {
  for (const round of [1, 2])
    for (const resource of corpus) {
      const expected = acceptWholeUpstream(resource)
      t.same(acceptUpstream(resource), expected, `${resource.name}, time ${round}`)
      t.equal(
        knownCluster(resource.body, CLUSTER_FIELDS) !== undefined,
        'abcdeh'.includes(resource.name),
        resource.name,
      )
    }
})

t.test('the same for any bytes', async (t) => {
  const mutation = fc.record({
    resource: fc.constantFrom(...corpus),
    at: fc.nat(400),
    byte: fc.nat(255),
    cut: fc.boolean(),
  })
  fc.assert(
    fc.property(mutation, ({ resource, at, byte, cut }) => {
      const body = Buffer.from(resource.body)
      const place = at % body.length
      body[place] = byte
      const changed = { ...resource, body: cut ? body.subarray(0, place) : body }
      t.strictSame(acceptUpstream(changed), acceptWholeUpstream(changed))
    }),
    { numRuns: 2_000 },
  )
})
