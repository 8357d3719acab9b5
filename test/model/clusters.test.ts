import t from 'tap'
import { clusterObject, manifests, modelOf, peerSecret, said } from './build.ts'

t.test('Cluster objects, peers and ourselves make the clusters', async (t) => {
  const model = modelOf(
    manifests(clusterObject('c1', 'vpc-1'), clusterObject('c2', 'vpc-2'), peerSecret('c2'), peerSecret('c3')),
  )
  t.match(model.self, { id: 'c1', network: 'vpc-1', trustDomain: 'c1.local' })
  t.same([...model.clusters.keys()].sort(), ['c1', 'c2', 'c3'])
  t.match(model.clusters.get('c3'), { network: '', trustDomain: 'c3.local' })
  t.equal(model.clusterByTrustDomain.get('c2.local')?.network, 'vpc-2')
  t.match(model.peers, [
    { cluster: 'c2', adsAddress: '192.0.2.9:15012', source: 'Secret/isthmus-system/peer-c2' },
    { cluster: 'c3' },
  ])
})

t.test('without any object there is still this cluster', async (t) => {
  t.match(modelOf('').clusters.get('c1'), { id: 'c1', network: '', trustDomain: 'c1.local' })
})

t.test('a trust domain of two clusters is nobody', async (t) => {
  const model = modelOf(
    manifests(clusterObject('c1', 'a'), clusterObject('c2', 'b', 'c1.local'), peerSecret('c2', 'c1.local')),
  )
  t.equal(model.clusterByTrustDomain.has('c1.local'), false)
  t.match(
    said(model, 'Cluster/acme/c2').join('\n'),
    /ResolvedRefs=False AmbiguousTrustDomain: .*"c1.local" belongs to c1, c2/,
  )
})

t.test(
  'a Cluster object that contradicts the certificates or the bundle is overruled, and told',
  async (t) => {
    const model = modelOf(
      manifests(
        clusterObject('c1', 'a', 'other.local'),
        clusterObject('c2', 'b', 'old.local'),
        peerSecret('c2', 'new.local'),
      ),
    )
    t.equal(model.self.trustDomain, 'c1.local')
    t.equal(model.clusterByTrustDomain.get('new.local')?.id, 'c2')
    t.equal(model.clusterByTrustDomain.has('old.local'), false)
    t.match(
      said(model, 'Cluster/acme/c1').join('\n'),
      /TrustDomainMismatch: spec.trustDomain: "other.local" differs from "c1.local" of the certificates of c1/,
    )
    t.match(
      said(model, 'Cluster/acme/c2').join('\n'),
      /TrustDomainMismatch: .*"old.local" differs from "new.local" of Secret\/isthmus-system\/peer-c2/,
    )
  },
)

t.test('nobody becomes a peer, or takes the place of one, by a Secret of another namespace', async (t) => {
  // Sorted by name it comes first.
  const { metadata, ...rest } = peerSecret('c2', 'evil.local') as { metadata: object }
  const evil = { ...rest, metadata: { ...metadata, namespace: 'bookinfo' } } as ReturnType<typeof peerSecret>
  const model = modelOf(manifests(evil, peerSecret('c2')))
  t.match(model.peers, [{ cluster: 'c2', trustDomain: 'c2.local', source: 'Secret/isthmus-system/peer-c2' }])
  t.equal(model.peers.length, 1)
  t.equal(model.clusterByTrustDomain.has('evil.local'), false)
  t.match(
    said(model, 'Secret/bookinfo/peer-c2').join('\n'),
    /Accepted=False InvalidPeer: metadata.namespace: "bookinfo" names no peers, only Secrets of "isthmus-system" do/,
  )
})

t.test('a Secret that is no peer is ignored; a broken peer is named with its field', async (t) => {
  const bad = peerSecret('c2')
  const model = modelOf(
    manifests(
      { ...bad, stringData: { cluster: 'c2', bundle: 'PEM' } },
      { ...peerSecret('c4'), metadata: { name: 'plain', namespace: 'x' } },
      { ...peerSecret('c1'), metadata: { ...(peerSecret('c1')['metadata'] as object), name: 'self' } },
      { ...peerSecret('c5') },
      { ...peerSecret('c5'), metadata: { ...(peerSecret('c5')['metadata'] as object), name: 'zz' } },
    ),
  )
  t.same(
    model.peers.map((peer) => peer.cluster),
    ['c5'],
  )
  t.match(said(model, 'Secret/isthmus-system/peer-c2'), [
    /Accepted=False InvalidPeer: data.trustDomain: expected a value/,
  ])
  t.match(said(model, 'Secret/isthmus-system/self'), [
    /InvalidPeer: data.cluster: "c1" is this cluster itself/,
  ])
  t.match(said(model, 'Secret/isthmus-system/zz'), [
    /Conflicted: data.cluster: "c5" is already the peer of Secret\/isthmus-system\/peer-c5/,
  ])
})
