// Which cluster a caller is of, by trust domain and issuing CA.
import t from 'tap'
import { Ca, createCa } from '../../src/identity/ca.ts'
import type { TrustBundle } from '../../src/identity/trust-bundle.ts'
import { computeModel } from '../../src/model/compute.ts'
import { originOf } from '../../src/model/origins.ts'
import type { Model } from '../../src/model/types.ts'
import { clusterObject, listOf, manifests, objects, peerSecret, said } from './build.ts'

const SHARED = 'cluster.local'
const root = await createCa({ trustDomain: SHARED })
const [a, b] = await Promise.all([0, 1].map(() => createCa({ trustDomain: SHARED, parent: root })))
if (a === undefined || b === undefined) throw new Error('no CA')

/** c1 is this cluster; bundles by cluster. */
function modelOf(trustDomains: Record<string, string>, bundles: Record<string, TrustBundle>): Model {
  const text = manifests(
    ...Object.entries(trustDomains).map(([id, trustDomain]) => clusterObject(id, id, trustDomain)),
    ...Object.keys(bundles)
      .filter((id) => id !== 'c1')
      .map((id) => peerSecret(id, trustDomains[id])),
  )
  return computeModel({
    cluster: 'c1',
    trustDomain: trustDomains['c1'] ?? '',
    list: listOf(objects(text)),
    bundleOf: (peer) => bundles[peer?.cluster ?? 'c1'],
  })
}

const issuerOf = (ca: Ca): string => ca.bundle.certificates.find(({ root }) => !root)?.publicKeyHash ?? ''
const rootHash = root.bundle.roots[0]?.publicKeyHash ?? ''
const who = (model: Model, trustDomain: string, issuer: string): string => {
  const origin = originOf(model, trustDomain, issuer)
  return origin.ok ? origin.value.id : origin.error
}

t.test('a trust domain and CAs of its own: the trust domain is enough', async (t) => {
  const other = await createCa({ trustDomain: 'c2.local' })
  const model = modelOf({ c1: SHARED, c2: 'c2.local' }, { c1: a.bundle, c2: other.bundle })
  t.equal(who(model, SHARED, 'any key'), 'c1')
  t.equal(who(model, 'c2.local', 'any key'), 'c2')
  t.equal(who(model, 'c3.local', issuerOf(a)), 'no cluster has the trust domain c3.local')
  t.same(model.sharedCas, [])
})

t.test('one trust domain, one root: the intermediate decides, the root speaks for nobody', async (t) => {
  const model = modelOf({ c1: SHARED, c2: SHARED }, { c1: a.bundle, c2: b.bundle })
  t.equal(who(model, SHARED, issuerOf(a)), 'c1')
  t.equal(who(model, SHARED, issuerOf(b)), 'c2')
  t.match(who(model, SHARED, rootHash), /ambiguous: O=cluster.local, CN=Isthmus root is a CA of c1 and c2/)
  t.match(
    who(model, SHARED, 'another key'),
    /several clusters have the trust domain cluster.local, .*\(c1, c2\)/,
  )
  t.same(
    said(model, 'Cluster/acme/c1').filter((line) => line.startsWith('ResolvedRefs')),
    [],
    'nothing to complain of',
  )
})

t.test('a shared root binds also where the trust domains differ', async (t) => {
  const second = await createCa({ trustDomain: 'c2.local', parent: root })
  const model = modelOf({ c1: SHARED, c2: 'c2.local' }, { c1: a.bundle, c2: second.bundle })
  t.equal(who(model, SHARED, issuerOf(a)), 'c1')
  t.equal(who(model, 'c2.local', issuerOf(second)), 'c2')
  t.match(who(model, SHARED, issuerOf(second)), /cannot be told apart/, 'a CA of c2 for a name of c1')
  t.match(who(model, 'c2.local', rootHash), /ambiguous/)
})

t.test(
  'a cluster whose bundle is not known is nobody, and takes no intermediate from the others',
  async (t) => {
    const model = modelOf({ c1: SHARED, c2: SHARED, c3: SHARED }, { c1: a.bundle, c2: b.bundle })
    t.equal(who(model, SHARED, issuerOf(a)), 'c1')
    t.match(said(model, 'Cluster/acme/c3').join('\n'), /AmbiguousTrustDomain: .*belongs to c1, c2, c3/)
    // c3 may be under c1's root too: whom that root signs might be its.
    const alone = modelOf({ c1: SHARED, c3: SHARED }, { c1: a.bundle })
    t.equal(who(alone, SHARED, issuerOf(a)), 'c1')
    t.match(who(alone, SHARED, rootHash), /cannot be told apart/)
  },
)

t.test('one key in two certificates is one CA', async (t) => {
  const certificate = (b.bundle.certificates.find((ca) => !ca.root) as { pem: string }).pem
  const renewed = Ca.fromParts(
    { trustDomain: SHARED, rootPem: root.rootPem, issuerPem: certificate, issuerKeyPem: b.issuerKeyPem },
    'copy',
  )
  if (!renewed.ok) throw new Error(renewed.error.message)
  const both = a.bundle.withIntermediates(renewed.value.bundle.certificates)
  const model = modelOf({ c1: SHARED, c2: SHARED }, { c1: both, c2: b.bundle })
  t.match(who(model, SHARED, issuerOf(b)), /ambiguous/)
  t.equal(who(model, SHARED, issuerOf(a)), 'c1', 'c1 keeps what is its alone')
  t.match(
    said(model, 'Cluster/acme/c2').join('\n'),
    /AmbiguousIssuer: .*is a CA of c1 and c2; callers whom it signed/,
  )
})

t.test('roots of their own tell clusters of one trust domain apart, if all are known', async (t) => {
  const own = await createCa({ trustDomain: SHARED })
  const model = modelOf({ c1: SHARED, c2: SHARED }, { c1: a.bundle, c2: own.bundle })
  t.equal(who(model, SHARED, own.bundle.roots[0]?.publicKeyHash ?? ''), 'c2')
  t.equal(who(model, SHARED, rootHash), 'c1')
})
