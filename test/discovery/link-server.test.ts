// Who may spend a token, and what he may say of himself: a real server, called over TLS.
import { request } from 'node:https'
import t, { type Test } from 'tap'
import { tokenManifest } from '../../src/discovery/link-objects.ts'
import { LINK_PATH, LinkServer } from '../../src/discovery/link-server.ts'
import { newSecret } from '../../src/discovery/link-token.ts'
import { createCa } from '../../src/identity/ca.ts'
import { parseCredential } from '../../src/identity/credential.ts'
import { systemClock } from '../../src/lib/clock.ts'
import { silentLogger } from '../../src/lib/log.ts'
import { DirectoryStore } from '../../src/objects/directory-store.ts'
import type { Manifest } from '../../src/objects/types.ts'
import { clusterObject, peerSecret } from '../model/build.ts'

const [home, away, other] = await Promise.all(
  ['c1.local', 'c2.local', 'c2.local'].map((trustDomain) => createCa({ trustDomain })),
)
if (home === undefined || away === undefined || other === undefined) throw new Error('no CA')
const issued = await home.issue({ namespace: 'isthmus-system', serviceAccount: 'isthmus-discovery' })
const ownBundle = home.bundlePem
const side = { cluster: 'c2', trustDomain: 'c2.local', bundle: away.bundlePem, network: 'n2' }

async function linkServer(t: Test) {
  const store = new DirectoryStore({ directories: [t.testdir({})], substitutions: {}, logger: silentLogger })
  await store.load()
  const credential = parseCredential(issued.certificatePem, issued.privateKeyPem, 'test')
  if (!credential.ok) throw new Error(JSON.stringify(credential.error))
  const server: LinkServer = new LinkServer({
    at: { host: '127.0.0.1', port: 0 },
    store,
    self: () => ({ cluster: 'c1', trustDomain: 'c1.local', network: 'n1', bundle: ownBundle }),
    credential: () => credential.value,
    onChange: () => listening(),
    logger: silentLogger,
    clock: systemClock,
  })
  t.teardown(() => server.stop())
  let listening = () => {}
  const put = async (manifest: Manifest) => {
    const applied = await store.apply(manifest)
    if (!applied.ok) throw new Error(JSON.stringify(applied.error))
  }
  /** A token of this server; `namespace`: where its Secret stands. */
  const token = async (namespace = 'isthmus-system') => {
    const { id, secret, hash } = newSecret()
    const kept = { id, hash, expiresMs: Date.now() + 60_000, for: '', usedBy: '', usedAt: '' }
    const manifest = tokenManifest(kept) as Manifest & { metadata: object }
    await put({ ...manifest, metadata: { ...manifest.metadata, namespace } } as Manifest)
    return { id, secret }
  }
  const first = await token()
  await new Promise<void>((resolve) => {
    listening = resolve
    server.refresh()
  })
  const spend = (body: object): Promise<{ status: number; error: string }> =>
    new Promise((resolve, reject) => {
      const call = request({
        host: '127.0.0.1',
        port: server.port,
        path: LINK_PATH,
        method: 'POST',
        rejectUnauthorized: false,
      })
      call.on('error', reject)
      call.on('response', async (response) => {
        let text = ''
        for await (const chunk of response) text += chunk
        resolve({
          status: response.statusCode ?? 0,
          error: (JSON.parse(text) as { error?: string }).error ?? '',
        })
      })
      call.end(JSON.stringify(body))
    })
  return { server, store, put, token, first, spend }
}

t.test('who has no secret is not listened to: his certificates are not parsed', async (t) => {
  const { server, first, spend } = await linkServer(t)
  const said = await spend({ id: first.id, secret: 'guessed', side: { ...side, bundle: 'garbage' } })
  t.match(said, { status: 403, error: /not known here/ })
  t.match(await spend({ ...first, side: { ...side, bundle: 'garbage' } }), { status: 400, error: /bundle/ })
  t.strictSame(
    [...server.refusals],
    [
      ['unknown', 1],
      ['malformed', 1],
    ],
  )
  t.match(await spend({ ...first, side }), { status: 200 }, 'a mistake does not spend it')
  t.match(await spend({ ...first, side }), { status: 403, error: /was used by c2/ })
})

t.test(
  'a token is a Secret of the own namespace; a peer is too, and nobody else stands in the way',
  async (t) => {
    const { store, put, token, first, spend } = await linkServer(t)
    t.match(await spend({ ...(await token('bookinfo')), side }), { status: 403, error: /not known here/ })
    const { metadata, ...rest } = peerSecret('c2') as { metadata: object }
    await put({ ...rest, metadata: { ...metadata, namespace: 'bookinfo' } } as Manifest)
    t.match(await spend({ ...first, side }), { status: 200, error: '' })
    const written = store.list('Secret').filter(({ spec }) => spec.data['bundle'] === side.bundle)
    t.match(written, [{ metadata: { namespace: 'isthmus-system', name: 'peer-c2' } }])
  },
)

t.test(
  'two tokens that are spent at once for one name: the one who comes second does not become the first',
  async (t) => {
    const { store, token, first, spend } = await linkServer(t)
    const posing = { ...side, bundle: other.bundlePem }
    const answers = await Promise.all([
      spend({ ...first, side }),
      spend({ ...(await token()), side: posing }),
    ])
    t.strictSame(answers.map(({ status }) => status).sort(), [200, 409])
    const bundles = store.list('Secret').flatMap(({ spec }) => spec.data['bundle'] ?? [])
    t.strictSame(bundles, [answers[0]?.status === 200 ? side.bundle : posing.bundle])
  },
)

t.test('a network that is in use is not taken at the word of a stranger', async (t) => {
  const { put, token, first, spend } = await linkServer(t)
  await put(clusterObject('c3', 'n3'))
  for (const [network, whose] of [
    ['n1', 'c1'],
    ['n3', 'c3'],
  ]) {
    const said = await spend({ ...first, side: { ...side, network } })
    t.match(said, { status: 409, error: `network ${network} is that of ${whose}: apply Cluster/c2 first` })
  }
  await put(clusterObject('c2', 'n3'))
  t.match(
    await spend({ ...first, side: { ...side, network: 'n1' } }),
    { status: 200 },
    'the own object counts',
  )
  t.match(await spend({ ...(await token()), side }), { status: 200 }, 'again, by the same')
})

t.test('nobody claims the CA of another: its callers, or ours, would be told from nobody', async (t) => {
  const { put, token, first, spend } = await linkServer(t)
  const third = await createCa({ trustDomain: 'c3.local' })
  const { stringData, ...rest } = peerSecret('c3') as unknown as { stringData: object }
  await put({ ...rest, stringData: { ...stringData, bundle: third.bundlePem } } as unknown as Manifest)
  for (const [whose, claimed] of [
    ['c1', home.bundlePem],
    ['c3', third.bundlePem],
  ]) {
    const said = await spend({ ...first, side: { ...side, bundle: away.bundlePem + claimed } })
    t.match(said, { status: 409, error: `its bundle has a CA of ${whose}, whose callers would be nobody` })
  }
  t.match(await spend({ ...first, side }), { status: 200 })
  t.match(await spend({ ...(await token()), side }), { status: 200 }, 'its own is its own')
})
