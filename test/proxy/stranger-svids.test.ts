// Real sockets, certificates that no decent CA would issue, names that are nearly right: the backend hears of none of them.
import { once } from 'node:events'
import t from 'tap'
import { TYPE } from '../../src/xds/types.ts'
import { type Minted, mintLeaf, mintRoot, uriName } from '../identity/mint.ts'
import { backend, gateway, gone, trustSecret } from './support.ts'

const ID = 'spiffe://cluster-8.example/ns/bookinfo/sa/sleep'
const target = await backend((socket) => socket.write('banner'))
const world = await gateway(target)
const [root, other] = [mintRoot('cluster-8 root'), mintRoot('cluster-9 root')]
world.proxy.put(
  TYPE.secret,
  trustSecret([
    world.home,
    world.peer,
    { trustDomain: 'cluster-8.example', bundlePem: root.pem },
    { trustDomain: 'cluster-9.example', bundlePem: other.pem },
  ]),
)
t.teardown(() => Promise.all([world.proxy.engine.close(), target.close()]))

async function heard(leaf: Minted | undefined, options: object = {}): Promise<string> {
  const client = world.open({
    ...(leaf === undefined ? {} : { cert: leaf.pem, key: leaf.keyPem }),
    ...options,
  })
  let text = ''
  client.on('error', () => {})
  client.on('data', (chunk) => {
    text += String(chunk)
    client.destroy()
  })
  await gone(client)
  return text
}

t.test('certificates', async (t) => {
  const past = { notBefore: new Date(Date.now() - 7_200_000), notAfter: new Date(Date.now() - 1_000) }
  const future = { notBefore: new Date(Date.now() + 3_600_000), notAfter: new Date(Date.now() + 7_200_000) }
  const bad: Record<string, Minted> = {
    expired: mintLeaf(root, ID, {}, past),
    'not valid yet': mintLeaf(root, ID, {}, future),
    'two URI SANs': mintLeaf(root, ID, {
      names: [uriName(ID), uriName('spiffe://cluster-1.example/ns/a/sa/b')],
    }),
    'no URI SAN': mintLeaf(root, ID, { names: [] }),
    "another federated CA's": mintLeaf(other, ID),
    'our own trust domain by a federated CA': mintLeaf(
      root,
      'spiffe://cluster-2.example/ns/eastwest/sa/gateway',
    ),
    'a trust domain nobody knows': mintLeaf(root, 'spiffe://cluster-7.example/ns/a/sa/b'),
    'the trust domain itself': mintLeaf(root, 'spiffe://cluster-8.example'),
    'a trust domain in capitals': mintLeaf(root, ID.replace('cluster-8', 'CLUSTER-8')),
    'a root as leaf': root,
  }
  t.equal(await heard(mintLeaf(root, ID)), 'banner', 'a good one')
  const before = target.accepts
  for (const [name, leaf] of Object.entries(bad))
    for (const maxVersion of ['TLSv1.2', 'TLSv1.3']) t.equal(await heard(leaf, { maxVersion }), '', name)
  t.equal(target.accepts, before)
})

t.test('server names', async (t) => {
  const host = 'productpage.bookinfo.svc.cluster.local'
  const before = target.accepts
  for (const servername of [
    `outbound_.9081_._.${host}`,
    `outbound_.09080_._.${host}`,
    `outbound_.9080_.v1_.${host}`,
    `outbound_.9080_._.${host}.`,
    `outbound|9080||${host}`,
    `inbound_.9080_._.${host}`,
    `outbound_.9080_._.reviews.bookinfo.svc.cluster.local`,
    host,
    'BlackHole',
    '__proto__',
    'constructor',
  ]) {
    t.equal(await heard(undefined, { servername }), '', servername)
  }
  t.equal(target.accepts, before)
  const upper = world.open({ servername: `OUTBOUND_.9080_._.${host.toUpperCase()}` })
  t.equal(String((await once(upper, 'data'))[0]), 'banner', 'case is no difference')
  upper.destroy()
})
