// CRLs at discovery: of a peer, from its Secret, and our own, from `ca.crl`; for streams, and in what gateways are sent.
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import t from 'tap'
import { type Ca, createCa } from '../../src/identity/ca.ts'
import { parseCertificate } from '../../src/identity/certificate.ts'
import { acceptSecret } from '../../src/resources/accept-secret.ts'
import { TYPE } from '../../src/xds/types.ts'
import * as m from '../identity/mint.ts'
import { gateway, peer, reachability, service, setting, workspace, yamlOf } from '../resources/world.ts'
import { type Seen, TestCluster } from './cluster.ts'

const [ca1, ca2] = await Promise.all(
  ['cluster-1', 'cluster-2'].map((name) => createCa({ trustDomain: `${name}.local` })),
)
if (ca1 === undefined || ca2 === undefined) throw new Error('no CA')

/** A CRL by a CA's issuing intermediate. */
function crlOf({ issuerPem, issuerKeyPem }: Ca, ...revoked: string[]): string {
  const issuing = parseCertificate(m.firstDer(issuerPem))
  if (!issuing.ok) throw new Error(issuing.error)
  const keys = { privateKey: m.keyFromPem(issuerKeyPem), spki: new Uint8Array() }
  const issuer = { der: issuing.value.der, pem: issuerPem, keyPem: '', subject: '', keys }
  const serials = revoked.map((serial) => m.der(0x02, Buffer.from(serial, 'hex')))
  return m.mintCrl({ issuer, issuerDer: issuing.value.subject, revoked: serials }).pem
}

const peerSecret = (crl: string): string => {
  const parsed = JSON.parse(peer('cluster-2', ca2.bundlePem).slice(4)) as { stringData: object }
  return yamlOf({ ...parsed, stringData: { ...parsed.stringData, crl } })
}
const cluster = await TestCluster.start('cluster-1', {
  ca: ca1,
  yaml:
    service({ name: 'productpage', pods: ['10.0.1.10:8080'] }) +
    gateway('203.0.113.10') +
    workspace +
    setting() +
    reachability(['cluster-1', 'cluster-2'], { 'cluster-2-network': 'cluster-1-network' }) +
    peer('cluster-2', ca2.bundlePem),
})
t.teardown(() => cluster.stop())

/** A CA that keeps the serial numbers of what it issues. */
function remembering(ca: Ca): { readonly ca: Ca; readonly serials: readonly string[] } {
  const serials: string[] = []
  const issue: Ca['issue'] = async (options) => {
    const issued = await ca.issue(options)
    const leaf = parseCertificate(m.firstDer(issued.certificatePem))
    if (leaf.ok) serials.push(leaf.value.serial)
    return issued
  }
  return { ca: { issue } as Ca, serials }
}

const discovery = { namespace: 'isthmus-system', serviceAccount: 'isthmus-discovery' }
const router = { id: 'router~10.0.0.7~eastwest-gateway.bookinfo~bookinfo.svc.cluster.local' }
const gatewayIdentity = { namespace: 'bookinfo', serviceAccount: 'eastwest-gateway' }

/** Trust domain → how many certificates its CRLs revoke, as a gateway is told. */
function revokedIn(seen: Seen): Record<string, number> {
  const secret = seen.get(TYPE.secret, 'ROOTCA')
  const accepted = secret === undefined ? undefined : acceptSecret(secret)
  if (accepted?.ok !== true || accepted.value.kind !== 'trust') return {}
  const { list } = accepted.value.bundles
  return Object.fromEntries(
    list.map(({ trustDomain, crls }) => [
      trustDomain,
      crls.reduce((sum, { crl }) => sum + crl.revoked.size, 0),
    ]),
  )
}

t.test('a peer whose certificate is revoked loses its stream; gateways get the list', async (t) => {
  const { ca, serials } = remembering(ca2)
  const second = (await cluster.client({ id: 'discovery~~cluster-2' }, { ...discovery, ca })).start(
    TYPE.serviceEntry,
  )
  await second.until('the export', () => second.names(TYPE.serviceEntry).length === 1)
  const seen = await cluster.client(router, gatewayIdentity)
  seen.subscribe(TYPE.secret, ['ROOTCA']).start()
  await seen.until('the trust', () => 'cluster-2.local' in revokedIn(seen))
  const from = performance.now()
  await cluster.apply(peerSecret(crlOf(ca2, ...serials)))
  await second.until('the refusal', ({ lastError }) => /certificate refused \(revoked\)/.test(lastError))
  t.ok(performance.now() - from < 1_000)
  await seen.until('the list', () => revokedIn(seen)['cluster-2.local'] === 1)

  await cluster.apply(peerSecret(crlOf(ca1)))
  await cluster.until('the problem', () =>
    cluster.discovery.problems().some(({ field }) => field === 'data.crl'),
  )
  t.match(
    cluster.discovery.problems().filter(({ field }) => field === 'data.crl'),
    [
      {
        object: 'Secret/isthmus-system/peer-cluster-2',
        message: /CRL 1 is of no CA of the trust domain cluster-2/,
      },
    ],
  )
  t.equal(revokedIn(seen)['cluster-2.local'], 1, 'the last good list stays')
  second.stop()
  seen.stop()
})

t.test("our own ca.crl revokes our own proxies, and reaches the others'", async (t) => {
  const { ca, serials } = remembering(ca1)
  const [bad, good] = [
    await cluster.client(router, { ...gatewayIdentity, ca }),
    await cluster.client(router, gatewayIdentity),
  ]
  for (const seen of [bad, good]) {
    seen.subscribe(TYPE.secret, ['ROOTCA']).start()
    await seen.until('the trust', () => 'cluster-1.local' in revokedIn(seen))
  }
  await writeFile(join(cluster.folder, 'certs', 'ca.crl'), crlOf(ca1, ...serials))
  await bad.until('the refusal', ({ lastError }) => /certificate refused \(revoked\)/.test(lastError))
  await good.until('the list', () => revokedIn(good)['cluster-1.local'] === 1)
  t.equal(good.lastError, '', 'its neighbour keeps its stream')
  bad.stop()
  good.stop()
})
