// What discovery says about trust, together with what is decided on this machine.
import t from 'tap'
import { createCa } from '../../src/identity/ca.ts'
import { parseCrlsPem } from '../../src/identity/crl.ts'
import type { LocalTrust } from '../../src/identity/federation-files.ts'
import { type Identity, judgeIdentity } from '../../src/identity/identity.ts'
import { TrustBundle } from '../../src/identity/trust-bundle.ts'
import { formatProblem } from '../../src/lib/result.ts'
import { LocalTrustAssembly } from '../../src/proxy/process/local-trust.ts'
import { acceptSecret } from '../../src/resources/accept-secret.ts'
import type { XdsResource } from '../../src/xds/types.ts'
import * as m from '../identity/mint.ts'
import { trustSecret } from '../proxy/support.ts'

const [own, peer, other] = await Promise.all(
  ['own.example', 'peer.example', 'other.example'].map((trustDomain) => createCa({ trustDomain })),
)
if (own === undefined || peer === undefined || other === undefined) throw new Error('no CA')
const issued = await own.issue({ namespace: 'a', serviceAccount: 'gw' })
const names = {
  object: 'certs',
  certificate: 'tls.crt',
  privateKey: 'tls.key',
  bundle: 'ca.crt',
  crl: 'ca.crl',
}
const parts = {
  certificate: issued.certificatePem,
  privateKey: issued.privateKeyPem,
  bundle: own.bundlePem,
  crl: '',
}
const judged = judgeIdentity(parts, names, Date.now())
if (!judged.ok) throw new Error(formatProblem(judged.error))
const identity: Identity = judged.value

function bundle(trustDomain: string, pem: string): TrustBundle {
  const parsed = TrustBundle.parse(trustDomain, pem, 'test')
  if (!parsed.ok) throw new Error(formatProblem(parsed.error))
  return parsed.value
}
const crlsOf = (...lists: { readonly pem: string }[]) => {
  const parsed = parseCrlsPem(lists.map(({ pem }) => pem).join(''))
  if (!parsed.ok) throw new Error(parsed.error)
  return parsed.value
}
const secrets = (...resources: XdsResource[]) => new Map(resources.map((one) => [one.name, one]))
const sent = secrets(trustSecret([own, peer]))

/** What a worker makes of it: trust domain → fingerprints of its roots, and how many CRLs. */
function seen(map: ReadonlyMap<string, XdsResource>, name = 'ROOTCA'): Record<string, string> {
  const accepted = acceptSecret(map.get(name) as XdsResource)
  if (!accepted.ok || accepted.value.kind !== 'trust') throw new Error('not accepted')
  return Object.fromEntries(
    accepted.value.bundles.list.map(({ trustDomain, roots, crls }) => [
      trustDomain,
      `${roots.map(({ fingerprint }) => fingerprint.slice(0, 8)).join(' ')}${crls.length > 0 ? ` ${crls.length} CRL` : ''}`,
    ]),
  )
}
const rootOf = (ca: typeof own): string => ca?.bundle.roots[0]?.fingerprint.slice(0, 8) ?? ''

t.test('where nothing is decided here, what was sent goes on as it was', async (t) => {
  const assembly = new LocalTrustAssembly()
  t.equal(assembly.assemble(sent, identity), sent)
})

t.test(
  'a trust domain of ours is ours alone: discovery cannot widen it, replace it or take it away',
  async (t) => {
    const local = new Map<string, LocalTrust>([
      ['peer.example', { bundle: bundle('peer.example', other.bundlePem), crls: [] }],
    ])
    const assembly = new LocalTrustAssembly()
    const expected = { 'own.example': rootOf(own), 'peer.example': rootOf(other) }
    t.same(seen(assembly.assemble(sent, identity, local)), expected, 'replaced')
    t.same(seen(assembly.assemble(secrets(trustSecret([own])), identity, local)), expected, 'added')
    const twice = assembly.assemble(secrets(trustSecret([own])), identity, local)
    t.same(seen(twice), expected)
    t.equal(assembly.problems.length, 0)
  },
)

t.test('the same inputs give the same map', async (t) => {
  const local = new Map<string, LocalTrust>([['peer.example', { bundle: undefined, crls: [] }]])
  const assembly = new LocalTrustAssembly()
  t.equal(assembly.assemble(sent, identity, local), assembly.assemble(sent, identity, local))
})

t.test('whom we revoke nobody brings back, and of all revoked we ourselves are left', async (t) => {
  const revoked = new Map<string, LocalTrust>([['peer.example', { bundle: undefined, crls: [] }]])
  const assembly = new LocalTrustAssembly()
  t.same(seen(assembly.assemble(sent, identity, revoked)), { 'own.example': rootOf(own) })
  const only = assembly.assemble(secrets(trustSecret([peer])), identity, revoked)
  t.same(seen(only), { 'own.example': rootOf(own) })
})

t.test('other validation contexts are narrowed by what we decide, never widened', async (t) => {
  const narrow = secrets(trustSecret([own, peer]), trustSecret([peer], 'narrow'))
  const local = new Map<string, LocalTrust>([
    ['peer.example', { bundle: bundle('peer.example', other.bundlePem), crls: [] }],
    ['other.example', { bundle: bundle('other.example', other.bundlePem), crls: [] }],
  ])
  const assembled = new LocalTrustAssembly().assemble(narrow, identity, local)
  t.same(seen(assembled, 'narrow'), { 'peer.example': rootOf(other) })
  t.same(Object.keys(seen(assembled)), ['other.example', 'own.example', 'peer.example'])
})

t.test('our own trust domain is decided by our credential', async (t) => {
  const local = new Map<string, LocalTrust>([
    ['own.example', { bundle: bundle('own.example', other.bundlePem), crls: [] }],
  ])
  const assembly = new LocalTrustAssembly()
  t.same(seen(assembly.assemble(sent, identity, local)), seen(sent))
  t.match(assembly.problems.map(formatProblem), [/own\.example: is our own trust domain/])
})

t.test('bundles that came with our credential count, and files have the last word', async (t) => {
  const withPeers = { ...identity, federated: [bundle('peer.example', other.bundlePem)] }
  const assembly = new LocalTrustAssembly()
  t.same(seen(assembly.assemble(sent, withPeers)), {
    'own.example': rootOf(own),
    'peer.example': rootOf(other),
  })
  const files = new Map<string, LocalTrust>([['peer.example', { bundle: undefined, crls: [] }]])
  t.same(seen(assembly.assemble(sent, withPeers, files)), { 'own.example': rootOf(own) })
})

t.test('CRLs of files and of our own credential are added; one that does not count is named', async (t) => {
  const root = m.mintRoot('root')
  const revoking = m.mintCrl({ issuer: root, revoked: [m.mintLeaf(root, 'spiffe://x.example/y')] })
  const mine = { ...identity, bundle: bundle('x.example', root.pem).withCrls(crlsOf(revoking)).bundle }
  const ours = { ...mine, credential: { ...identity.credential, id: { trustDomain: 'x.example' } } } as never
  const from = secrets(trustSecret([{ trustDomain: 'x.example', bundlePem: root.pem }, peer]))
  t.match(seen(new LocalTrustAssembly().assemble(from, ours))['x.example'], /1 CRL$/)

  const stranger = m.mintCrl({ issuer: m.mintRoot('stranger') })
  const forged = m.mintCrl({ issuer: root, signer: m.ecKeys() })
  const local = new Map<string, LocalTrust>([['x.example', { crls: crlsOf(forged, revoking, stranger) }]])
  const assembly = new LocalTrustAssembly()
  t.match(seen(assembly.assemble(from, identity, local)), {
    'x.example': / 1 CRL$/,
    'peer.example': rootOf(peer),
  })
  t.match(assembly.problems.map(formatProblem), [/CRL 1: no CA of the bundle in force/, /CRL 3: no CA/])
})
