// The client library on real sockets, against our server; the example of its README, as it stands there.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { createCa } from '../../src/identity/ca.ts'
import { writeCredential } from '../../src/identity/ca-folder.ts'
import { Backoff } from '../../src/lib/backoff.ts'
import { XdsConnection, type XdsConnectionOptions } from '../../src/xds/connection.ts'
import { MutualTls } from '../../src/xds/mutual-tls.ts'
import { CLUSTER, ENDPOINTS, LISTENER, rawType, SECRET } from '../../src/xds/resource-types.ts'
import { SnapshotFile } from '../../src/xds/snapshot-file.ts'
import { TYPE } from '../../src/xds/types.ts'
import type { Watch, XdsChange } from '../../src/xds/watch.ts'
import { WatchedType } from '../../src/xds/watched-type.ts'
import { TestCluster } from '../discovery/cluster.ts'
import { HandClock } from '../proxy/hand-clock.ts'
import { service } from '../resources/world.ts'
import { byName, cluster, endpoints, listener, NODE, plain } from './fixtures.ts'
import { serve } from './wire.ts'

interface Scope {
  teardown(end: () => unknown): void
}

async function start(t: Scope, port = 0) {
  const served = serve()
  t.teardown(() => served.server.close(0))
  const at = await served.server.listen({ host: '127.0.0.1', port })
  return { ...served, port: 'port' in at ? at.port : 0 }
}

function connect(t: Scope, port: number, options: Partial<XdsConnectionOptions> = {}) {
  const xds = new XdsConnection({
    target: { address: `127.0.0.1:${port}`, plaintext: true },
    node: NODE,
    backoff: new Backoff({ baseMs: 5, maxMs: 20 }),
    ...options,
  })
  t.teardown(() => xds.stop())
  return xds
}

async function next<T>(changes: AsyncIterator<XdsChange<T>, undefined>): Promise<XdsChange<T>> {
  const { value } = await changes.next()
  if (value === undefined) throw new Error('it has ended')
  return value
}
const reader = <T>(watch: Watch<T>) => watch[Symbol.asyncIterator]()

async function folder(t: Scope): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'isthmus-xds-'))
  t.teardown(() => rm(path, { recursive: true, force: true }))
  return path
}

for (const mode of ['delta', 'sotw'] as const) {
  t.test(`${mode}: changes are typed, and answered when the next one is asked for`, async (t) => {
    const { cache, server, port } = await start(t)
    cache.setType(TYPE.cluster, byName(cluster('a', 1), cluster('b')))
    const xds = connect(t, port, { mode })
    const acked = () => server.clients()[0]?.types[TYPE.cluster]?.ackedVersion ?? ''
    const clusters = reader(xds.watch(CLUSTER, '*'))
    const first = await next(clusters)
    t.equal(first.changed.get('a')?.connectTimeout?.seconds, 1n)
    t.equal(first.identifier, 'test')
    t.match(first, { source: 'server', removed: [] })
    t.equal(acked(), '', 'not answered while it is looked at')
    cache.setType(TYPE.cluster, byName(cluster('a', 2)))
    const [second, third] = [await next(clusters), await next(clusters)]
    t.notSame(acked(), '')
    t.strictSame([[...second.changed.keys()], second.removed], [['a'], []], 'make before break')
    t.strictSame([[...third.resources.keys()], third.removed], [['a'], ['b']])
    t.equal(third.resources.get('a')?.connectTimeout?.seconds, 2n)
    t.match(await clusters.return?.(), { done: true })
    t.match(await clusters.next(), { done: true })
  })

  t.test(`${mode}: what is refused is named to the server, and what was there before stays`, async (t) => {
    const { cache, server, port } = await start(t)
    cache.setType(TYPE.cluster, byName(cluster('a', 1), cluster('b', 1)))
    const xds = connect(t, port, { mode })
    const clusters = reader(xds.watch(CLUSTER, '*'))
    await next(clusters)
    cache.setType(TYPE.cluster, byName(cluster('a', 2), cluster('b', 2)))
    const bad = await next(clusters)
    bad.reject('too slow', 'a')
    cache.setType(TYPE.cluster, byName(cluster('a', 2), cluster('b', 3)))
    const after = await next(clusters)
    t.equal(after.resources.get('b')?.connectTimeout?.seconds, 3n)
    const late = reader(xds.watch(CLUSTER, '*'))
    t.equal((await next(late)).resources.get('a')?.connectTimeout?.seconds, 1n, 'the last good one')
    await late.return?.()
    t.match(server.clients()[0]?.types[TYPE.cluster], { lastError: 'a: too slow' })

    let thrown = 0
    xds.watch(rawType('k'), '*', async () => {
      thrown++
      throw new Error('not today')
    })
    cache.setType('k', byName(plain('x', '1')))
    while (server.clients()[0]?.types['k']?.lastError === undefined || thrown === 0) await nextTurn()
    while (server.clients()[0]?.types['k']?.lastError === '') await nextTurn()
    t.match(server.clients()[0]?.types['k'], { lastError: /not today/ })
  })

  t.test(`${mode}: one that cannot be decoded is refused alone`, async (t) => {
    const { cache, server, port } = await start(t)
    const broken = { ...listener('broken'), body: Buffer.from([0x0a, 0x06, ...Buffer.from('broken'), 0xff]) }
    cache.setType(TYPE.listener, byName(listener('good'), broken))
    const listeners = reader(connect(t, port, { mode }).watch(LISTENER, '*'))
    t.strictSame([...(await next(listeners)).resources.keys()], ['good'])
    void listeners.next()
    while ((server.clients()[0]?.types[TYPE.listener]?.lastError ?? '') === '') await nextTurn()
    t.match(server.clients()[0]?.types[TYPE.listener]?.lastError, /broken: is not a valid .*Listener/)
  })

  t.test(`${mode}: a name that does not exist is told so, and told of when it appears`, async (t) => {
    const { cache, port } = await start(t)
    cache.setType(TYPE.endpoints, byName(endpoints('there')))
    const xds = connect(t, port, { mode, doesNotExistMs: 500 })
    const told: string[] = []
    const assignments = reader(xds.watch(ENDPOINTS, ['there', 'later']))
    while (told.length < 2) {
      const { changed, removed } = await next(assignments)
      told.push(...changed.keys(), ...removed.map((name) => `no ${name}`))
    }
    t.strictSame(told.sort(), ['no later', 'there'])
    cache.setType(TYPE.endpoints, byName(endpoints('there'), endpoints('later')))
    t.strictSame([...(await next(assignments)).changed.keys()], ['later'])
    const clusters = reader(xds.watch(CLUSTER, ['nowhere']))
    t.strictSame((await next(clusters)).removed, ['nowhere'])
  })

  t.test(
    `${mode}: what was received stays while the server is away, and then the difference comes`,
    async (t) => {
      const first = await start(t)
      first.cache.setType(TYPE.cluster, byName(cluster('a'), cluster('b')))
      const xds = connect(t, first.port, { mode })
      const clusters = reader(xds.watch(CLUSTER, '*'))
      await next(clusters)
      const following = clusters.next()
      await nextTurn()
      await first.server.close(0)
      while (xds.state.phase !== 'waiting') await nextTurn()
      const other = xds.watch(CLUSTER, ['b'])
      const late = await next(reader(other))
      t.match(late, { source: 'cache' })
      t.strictSame([...late.resources.keys()], ['b'], 'a new watch has it at once')
      other.stop()
      const second = await start(t, first.port)
      second.cache.setType(TYPE.cluster, byName(cluster('a'), cluster('c')))
      const told: string[] = []
      for (let change = (await following).value; change !== undefined; change = await next(clusters)) {
        told.push(...change.changed.keys(), ...change.removed.map((name) => `no ${name}`))
        if (told.length >= 2) break
      }
      t.strictSame(told, ['c', 'no b'], 'and not what it has already')
    },
  )
}

t.test('SotW: who reads resource_errors is told at once what does not exist', async (t) => {
  const { cache, port } = await start(t)
  cache.setType(TYPE.endpoints, byName(endpoints('there')))
  const node = { ...NODE, userAgentName: 'isthmus' }
  const xds = connect(t, port, { mode: 'sotw', node, doesNotExistMs: 3_600_000 })
  const assignments = reader(xds.watch(ENDPOINTS, ['there', 'later']))
  const first = await next(assignments)
  t.strictSame([[...first.changed.keys()], first.removed], [['there'], ['later']])
  cache.setType(TYPE.endpoints, byName(endpoints('there'), endpoints('later')))
  t.strictSame([...(await next(assignments)).changed.keys()], ['later'])
})

t.test('watches of one type share its subscription, and a stalled type holds up no other', async (t) => {
  const { cache, server, port } = await start(t)
  cache.set(
    new Map([
      [TYPE.endpoints, byName(endpoints('a'), endpoints('b'), endpoints('c'))],
      [TYPE.cluster, byName(cluster('a'))],
    ]),
  )
  const xds = connect(t, port)
  await next(reader(xds.watch(CLUSTER, '*')))
  const seen: string[] = []
  const one = xds.watch(ENDPOINTS, ['a'], ({ changed }) => void seen.push(...changed.keys()))
  const two = xds.watch(ENDPOINTS, ['a', 'b'], ({ changed }) => void seen.push(...changed.keys()))
  const subscribed = () => server.clients()[0]?.types[TYPE.endpoints]?.subscribed
  while (seen.length < 3) await nextTurn()
  t.strictSame(seen.sort(), ['a', 'a', 'b'], 'while nobody has answered for the clusters')
  t.equal(subscribed(), 2)
  two.update(['c'])
  while (seen.length < 4 || subscribed() !== 2) await nextTurn()
  t.equal(seen.at(-1), 'c')
  one.stop()
  while (subscribed() !== 1) await nextTurn()
  t.equal(server.clients().length, 1, 'all on one stream')
  t.throws(() => two[Symbol.asyncIterator](), /has a callback/)
  t.throws(() => xds.watch(rawType(TYPE.endpoints), '*'), /read in another way/)
  xds.stop()
  t.throws(() => xds.watch(CLUSTER, '*'), /stopped/)
})

t.test('a type of which nothing is wanted any more is not asked for on the next stream', async (t) => {
  const { cache, server, port } = await start(t)
  cache.set(
    new Map([
      [TYPE.cluster, byName(cluster('a'))],
      [TYPE.listener, byName(listener('l'))],
    ]),
  )
  const xds = connect(t, port)
  const one = xds.watch(CLUSTER, ['a'])
  await next(reader(one))
  one.stop()
  const listeners = reader(xds.watch(LISTENER, '*'))
  await next(listeners)
  const following = listeners.next()
  xds.reconnect()
  const asked = () => Object.keys(server.clients().find(({ types }) => TYPE.listener in types)?.types ?? {})
  while (server.clients().length !== 1 || asked().length === 0) await nextTurn()
  cache.setType(TYPE.listener, byName(listener('l', 2)))
  await following
  t.strictSame(asked(), [TYPE.listener])
})

t.test('only the time of a stream that is up says that a name does not exist', async (t) => {
  const clock = new HandClock()
  const wanted: unknown[] = []
  const type = new WatchedType(ENDPOINTS, {
    clock,
    doesNotExistMs: 15_000,
    tellsAll: false,
    onWanted: (names) => wanted.push(names),
    onKept: () => {},
  })
  const removed: string[] = []
  const watch = type.watch(['a'], (change) => void removed.push(...change.removed))
  clock.advance(60_000)
  type.connected(true)
  clock.advance(14_999)
  type.connected(false)
  clock.advance(60_000)
  type.connected(true)
  clock.advance(14_999)
  t.strictSame(removed, [])
  clock.advance(1)
  t.strictSame(removed, ['a'])
  await type.take({ upserted: [endpoints('a')], removed: [], systemVersion: '1', identifier: '' })
  clock.advance(60_000)
  t.strictSame(removed, ['a'], 'told once')
  watch.update(['a', 'b'])
  watch.stop()
  t.strictSame(wanted, [['a'], ['a', 'b'], []])
  t.equal(clock.pending, 0)
})

t.test('a run without a server starts from what the last one had, but for Secrets', async (t) => {
  const directory = await folder(t)
  const lastGood = () => new SnapshotFile({ directory, owner: NODE.id })
  const { cache, server, port } = await start(t)
  cache.set(
    new Map([
      [TYPE.cluster, byName(cluster('a'), cluster('b'))],
      [TYPE.secret, byName(plain('ROOTCA', 'key', TYPE.secret))],
    ]),
  )
  const first = connect(t, port, { lastGood: lastGood() })
  await next(reader(first.watch(rawType(TYPE.secret), ['ROOTCA'])))
  const clusters = reader(first.watch(CLUSTER, '*'))
  await next(clusters)
  void clusters.next()
  while ((server.clients()[0]?.types[TYPE.cluster]?.ackedVersion ?? '') === '') await nextTurn()
  first.stop()
  t.notMatch(await readFile(join(directory, 'snapshot'), 'utf8'), /Secret/)
  await server.close(0)
  const second = connect(t, port, { lastGood: lastGood(), mode: 'sotw' })
  const change = await next(reader(second.watch(CLUSTER, '*')))
  t.match(change, { source: 'disk', version: '' })
  t.strictSame([...change.resources.keys()], ['a', 'b'])
})

t.test('mutual TLS: a new certificate opens the stream anew, the wrong server is refused', async (t) => {
  const directory = await folder(t)
  const ca = await createCa({ trustDomain: 'one.example' })
  const issue = async (serviceAccount: string) => ({
    ...(await ca.issue({ namespace: 'ns', serviceAccount })),
    bundlePem: ca.bundlePem,
  })
  await writeCredential(directory, await issue('first'))
  const served = serve()
  t.teardown(() => served.server.close(0))
  const own = await issue('discovery')
  const tls = { cert: own.certificatePem, key: own.privateKeyPem, ca: ca.bundlePem }
  const at = await served.server.listen({ host: '127.0.0.1', port: 0, tls })
  const address = 'port' in at ? `127.0.0.1:${at.port}` : ''
  served.cache.setType(TYPE.cluster, byName(cluster('a')))
  const credential = new MutualTls({ directory, serverIds: ['spiffe://one.example/ns/ns/sa/discovery'] })
  await credential.start()
  t.teardown(() => credential.stop())
  const xds = connect(t, 0, { target: { address, credential } })
  await next(reader(xds.watch(CLUSTER, '*')))
  await writeCredential(directory, await issue('second'))
  while (served.peers.length < 2) await nextTurn()
  const ids = served.peers.map(({ certificate }) => Buffer.from(certificate ?? []).toString('latin1'))
  t.match(ids[0], /sa\/first/)
  t.match(ids[1], /sa\/second/)
  const choosy = new MutualTls({ directory, serverIds: ['spiffe://one.example/ns/ns/sa/other'] })
  await choosy.start()
  t.teardown(() => choosy.stop())
  const refused = connect(t, 0, { target: { address, credential: choosy } })
  refused.watch(SECRET, ['x'], () => {
    t.fail('nothing may come')
  })
  while (refused.state.phase !== 'waiting') await nextTurn()
  t.match(refused.state.lastError, /sa\/discovery; expected .*sa\/other/)
  t.throws(
    () => connect(t, 0, { target: { address: '192.0.2.1:15012', plaintext: true } }),
    /give a credential/,
  )
})

t.test('the example of the README runs', async (t) => {
  const discovery = await TestCluster.start('cluster-1', {
    yaml: service({ name: 'productpage', pods: ['10.0.1.10:8080'] }),
  })
  t.teardown(() => discovery.stop())
  const project = await folder(t)
  const root = fileURLToPath(new URL('../..', import.meta.url))
  const readme = await readFile(join(root, 'src/xds/README.md'), 'utf8')
  const [, example = ''] = /```ts\n(.*?)```/s.exec(readme) ?? []
  await mkdir(join(project, 'node_modules'))
  await symlink(root, join(project, 'node_modules', 'isthmus'), 'dir')
  await writeFile(join(project, 'package.json'), '{ "type": "module" }')
  await writeFile(join(project, 'example.ts'), example)
  const own = await discovery.ca.issue({ namespace: 'bookinfo', serviceAccount: 'example' })
  await writeCredential(join(project, 'certs'), { ...own, bundlePem: discovery.ca.bundlePem })
  const child = spawn(process.execPath, ['--conditions=isthmus-source', 'example.ts'], {
    cwd: project,
    env: {
      CERTS: join(project, 'certs'),
      SERVER_ID: 'spiffe://cluster-1.local/ns/isthmus-system/sa/isthmus-discovery',
      XDS: `127.0.0.1:${discovery.port}`,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let [said, wrong] = ['', '']
  child.stdout.on('data', (chunk) => (said += chunk))
  child.stderr.on('data', (chunk) => (wrong += chunk))
  const [code] = await once(child, 'close')
  t.equal(wrong, '')
  t.equal(code, 0)
  t.match(said, /^cluster outbound\|9080\|\|productpage/m)
  t.match(said, /^1 endpoints$/m)
  const { exports } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8'))
  const door = exports['./xds']
  t.equal(door.default, door['isthmus-source'].replace('./src/', './dist/').replace(/\.ts$/, '.js'))
  t.equal(door.types, door.default.replace(/\.js$/, '.d.ts'))
})
