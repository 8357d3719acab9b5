// Every xDS client that there is, against real discovery servers and through real gateways, over the same events. One world for all: each
// test goes on where the one before it ended.
import t, { type Test } from 'tap'
import { Ca, createCa } from '../../src/identity/ca.ts'
import type { Pod } from '../process/pod.ts'
import { Backend } from './backend.ts'
import { Impostor } from './impostor.ts'
import { type Client, KINDS, missing, startClient } from './kinds.ts'
import { GATEWAYS, productpage, World } from './world.ts'

t.setTimeout(240_000)
for (const kind of KINDS) t.test(`${kind.name} is there`, { skip: missing(kind) }, async () => {})
const kinds = KINDS.filter((kind) => missing(kind) === false)
const [FIRST, SECOND] = GATEWAYS

/** What a test starts may outlive it. */
const scope = t
const remote = await Backend.start(scope, 'remote')
const other = await Backend.start(scope, 'other')
const world = await World.create(scope, remote.address)
const { serving, calling } = world
const clients = await Promise.all(kinds.map((kind) => startClient(scope, world, kind)))

/** The same for all clients, at once. */
const each = (act: (client: Client) => Promise<void>) => Promise.all(clients.map(act))

/** All come to it and stay with it; and none has refused anything that it was sent. */
async function allReach(t: Test, who: string): Promise<void> {
  await each(({ caller }) => caller.settlesOn(who))
  t.pass(`all reach ${who}`)
  const known = await calling.clients()
  for (const { kind, pod } of clients) {
    const client = known.find(({ nodeId }) => nodeId.includes(`~${pod}.bookinfo~`))
    t.match(client?.userAgent, kind.userAgent)
    for (const [type, { lastError }] of Object.entries(client?.types ?? {}))
      t.equal(lastError, '', `${kind.name} refuses nothing of ${type}`)
  }
}

/** A connection of one of these ids, which has ended, at whichever gateway. */
async function connectionOf(gateways: readonly Pod[], serviceAccount: string) {
  const id = `spiffe://cluster-2.local/ns/bookinfo/sa/${serviceAccount}`
  return Promise.race(gateways.map((pod) => pod.line(({ peerId }) => peerId === id)))
}

let local: Backend | undefined
/** The Service is here too; with a backend that is ready, or none. */
const serveHere = (backend?: Backend) =>
  calling.save('productpage', productpage(backend === undefined ? [] : [backend.address]))

t.test('each reaches productpage.bookinfo:9080 in another cluster', async (t) => {
  await allReach(t, 'remote')
})

t.test('another endpoint there; every call was mutual TLS with the server name of its client', async (t) => {
  await serving.save('productpage', productpage([other.address]))
  remote.stop()
  await allReach(t, 'other')
  await each(async ({ kind, pod }) => {
    const alpn = kind.name.startsWith('Envoy') ? 'istio' : 'h2'
    t.match(await connectionOf(world.gateways, pod), { sni: kind.sni, alpn }, kind.name)
  })
})

t.test('a gateway that dies: the other serves', async (t) => {
  await world.killGateway(FIRST)
  await allReach(t, 'other')
  await world.startGateway(FIRST)
})

t.test('an endpoint here comes before those elsewhere, and they come after it when it dies', async (t) => {
  local = await Backend.start(scope, 'local')
  await serveHere(local)
  await allReach(t, 'local')
  local.stop()
  await allReach(t, 'other')
  local = await Backend.start(scope, 'local', local.address)
  await allReach(t, 'local')
  await serveHere()
  await allReach(t, 'other')
})

t.test(
  'without discovery calls go on, also past a gateway that dies; the news comes when it is back',
  async (t) => {
    await calling.kill()
    await each(async ({ caller }) => {
      t.strictSame(await caller.calls(5), ['other'], `${caller.name} goes on`)
    })
    await world.killGateway(SECOND)
    await each(({ caller }) => caller.settlesOn('other'))
    await serveHere(local)
    await calling.start(scope)
    await allReach(t, 'local')
    await serveHere()
    await allReach(t, 'other')
  },
)

let answering = ''
t.test('a new certificate is the one that the next connection shows', async (t) => {
  await each(({ renew }) => renew())
  const shown = Promise.all(clients.map(({ pod }) => connectionOf(world.gateways, `${pod}-2`)))
  const done = shown.then(() => true)
  // A connection is logged when it ends: with its backend.
  for (let nth = 1, backend = other; !(await Promise.race([done, false])); nth++) {
    backend.stop()
    answering = `other-${nth}`
    backend = await Backend.start(scope, answering, other.address)
    await allReach(t, answering)
  }
  for (const connection of await shown) t.match(connection, { alpn: /^(h2|istio)$/ })
})

t.test('another CA there: a gateway that it has certified is as good', async (t) => {
  await serving.renewCa()
  await world.trust()
  await each(({ trust }) => trust())
  await world.killGateway(FIRST)
  await world.startGateway(FIRST)
  await allReach(t, answering)
})

t.test('no client talks to a server that is not the gateway, whoever signed its certificate', async (t) => {
  const gateway = { namespace: 'bookinfo', serviceAccount: 'eastwest-gateway' }
  const neighbour = await serving.ca.issue({ namespace: 'bookinfo', serviceAccount: 'other' })
  const unknown = await (await createCa({ trustDomain: 'cluster-1.local' })).issue(gateway)
  // A CA that all trust, for another trust domain.
  const { rootPem, issuerPem, issuerKeyPem } = calling.ca
  const parts = { trustDomain: 'cluster-1.local', rootPem, issuerPem, issuerKeyPem }
  const foreign = Ca.fromParts(parts, 'the CA of cluster-2')
  if (!foreign.ok) throw new Error(foreign.error.message)
  const crossed = await foreign.value.issue(gateway)
  await world.killGateway(FIRST)
  const names = new Set(kinds.map(({ sni }) => sni))
  for (const { certificatePem: cert, privateKeyPem: key } of [neighbour, unknown, crossed]) {
    const impostor = await Impostor.start(scope, FIRST, world.port, { cert, key })
    // A client waits longer from one attempt to the next.
    while (impostor.tried < clients.length || impostor.triedBy.size < names.size)
      await each(async ({ caller }) => {
        t.match(
          await caller.call(1_000),
          /^error (UNAVAILABLE|DEADLINE_EXCEEDED|Unavailable|DeadlineExceeded)/,
        )
      })
    // grpc-js has one pool of CAs: what it is told of one trust domain, each of them may say.
    const pooled = cert === crossed.certificatePem ? ['productpage.bookinfo'] : []
    t.strictSame([...impostor.believedBy], pooled)
    await impostor.stop()
  }
})
