// Our client against our server on real sockets.
import { spawn } from 'node:child_process'
import { X509Certificate } from 'node:crypto'
import { EventEmitter, once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { type Ca, createCa } from '../../src/identity/ca.ts'
import { Backoff } from '../../src/lib/backoff.ts'
import { type Problem, problem } from '../../src/lib/result.ts'
import { XdsClient, type XdsClientOptions } from '../../src/xds/client.ts'
import type { ClientTls, XdsTarget } from '../../src/xds/client-channel.ts'
import { TYPE } from '../../src/xds/types.ts'
import { byName, cluster, endpoints, listener, NODE, plain } from './fixtures.ts'
import { serve } from './wire.ts'

interface Scope {
  teardown(end: () => unknown): void
}

/** A client that writes down what it gets, as `Cluster +a -b`, and whose test waits for lines. */
function record(t: Scope, target: XdsTarget, options: Partial<XdsClientOptions> = {}) {
  const log: string[] = []
  const events = new EventEmitter()
  const verdicts = new Map<string, readonly Problem[]>()
  const client: XdsClient = new XdsClient({
    target,
    node: () => ({ ...NODE, userAgentName: 'isthmus' }),
    backoff: new Backoff({ baseMs: 5, maxMs: 20 }),
    onUpdate(typeUrl, { upserted, removed }) {
      const kind = typeUrl.slice(typeUrl.lastIndexOf('.') + 1)
      log.push(
        [kind, ...upserted.map((one) => `+${one.name}`), ...removed.map((name) => `-${name}`)].join(' '),
      )
      // Later: what the receiver does in answer to an update is part of it.
      setImmediate(() => events.emit('change'))
      return upserted.flatMap((one) => verdicts.get(`${one.name}@${one.version}`) ?? [])
    },
    onState: () => setImmediate(() => events.emit('change')),
    ...options,
  })
  t.teardown(() => client.stop())
  const until = async (condition: () => boolean) => {
    while (!condition()) await once(events, 'change')
  }
  return { client, log, verdicts, until, lines: (count: number) => until(() => log.length >= count) }
}

async function listen(t: Scope, options: Parameters<typeof serve>[0] = {}) {
  const served = serve(options)
  const at = await served.server.listen({ host: '127.0.0.1', port: 0 })
  t.teardown(() => served.server.close(0))
  return { ...served, target: { address: 'port' in at ? `127.0.0.1:${at.port}` : '' } }
}

for (const mode of ['delta', 'sotw'] as const) {
  t.test(`${mode}: subscribe sends differences, at any time`, async (t) => {
    const { cache, server, target } = await listen(t)
    cache.set(
      new Map([
        [TYPE.cluster, byName(cluster('a'), cluster('b'))],
        [TYPE.endpoints, byName(endpoints('a'), endpoints('b'))],
      ]),
    )
    const { client, log, lines, until } = record(t, target, { mode })
    client.subscribe(TYPE.cluster, '*')
    client.start()
    await lines(1)
    client.subscribe(TYPE.endpoints, ['a'])
    await lines(2)
    client.subscribe(TYPE.endpoints, ['a', 'b'])
    await lines(3)
    client.subscribe(TYPE.endpoints, ['b'])
    cache.setType(TYPE.cluster, byName(cluster('b', 2)))
    await until(() => log.some((line) => line.includes('-a')))
    t.same(log.slice(0, 3), ['Cluster +a +b', 'ClusterLoadAssignment +a', 'ClusterLoadAssignment +b'])
    t.same(log.filter((line) => line.startsWith('Cluster ')).slice(1), ['Cluster +b', 'Cluster -a'])
    t.match([...(client.initialVersions.get(TYPE.endpoints)?.keys() ?? [])], ['b'])
    t.match(server.clients(), [{ nodeId: NODE.id, variant: mode, userAgent: 'isthmus' }])
    t.match(client.state, { phase: 'connected', lastError: '' })
  })

  t.test(
    `${mode}: a refused resource is named, the others are kept, and the corrected one is taken`,
    async (t) => {
      const { cache, server, target } = await listen(t)
      const { client, log, verdicts, lines, until } = record(t, target, { mode })
      verdicts.set(`bad@${listener('bad', 1).version}`, [problem('bad', 'address', 'is silly')])
      cache.setType(TYPE.listener, byName(listener('good'), listener('bad', 1)))
      client.subscribe(TYPE.listener, '*')
      client.start()
      await lines(1)
      t.match(client.initialVersions.get(TYPE.listener)?.get('good'), listener('good').version)
      t.equal(client.initialVersions.get(TYPE.listener)?.get('bad'), '', 'claimed, but in no known form')
      cache.setType(TYPE.listener, byName(listener('good'), listener('bad', 2)))
      await lines(2)
      t.same(log, ['Listener +good +bad', 'Listener +bad'])
      t.equal(client.initialVersions.get(TYPE.listener)?.get('bad'), listener('bad', 2).version)
      const status = () => server.clients()[0]?.types[TYPE.listener]
      cache.setType('other', byName(plain('x', '1')))
      client.subscribe('other', '*')
      await until(() => log.length === 3)
      t.match(status(), { lastError: 'bad: address: is silly', nackedVersion: /./ })
      t.equal(status()?.ackedVersion, status()?.sentVersion)
    },
  )
}

t.test(
  'a receiver that takes its time holds back the answer, and gets updates one after the other',
  async (t) => {
    const { cache, server, target } = await listen(t)
    const log: string[] = []
    const events = new EventEmitter()
    let finish: (problems: readonly Problem[]) => void = () => {}
    const { client } = record(t, target, {
      onUpdate: (typeUrl, { upserted }) => {
        log.push(`${typeUrl.slice(typeUrl.lastIndexOf('.') + 1)} ${upserted.map(({ name }) => name)}`)
        setImmediate(() => events.emit('change'))
        return new Promise((resolve) => {
          finish = resolve
        })
      },
    })
    const lines = async (count: number) => {
      while (log.length < count) await once(events, 'change')
    }
    cache.set(
      new Map([
        [TYPE.cluster, byName(cluster('a'))],
        [TYPE.endpoints, byName(endpoints('a'))],
        [TYPE.listener, byName(listener('l'))],
      ]),
    )
    for (const typeUrl of [TYPE.cluster, TYPE.listener]) client.subscribe(typeUrl, '*')
    client.subscribe(TYPE.endpoints, ['a'])
    client.start()
    await lines(1)
    const acked = (typeUrl: string) => server.clients()[0]?.types[typeUrl]?.ackedVersion ?? ''
    t.same([acked(TYPE.cluster), log], ['', ['Cluster a']])
    t.equal(client.initialVersions.get(TYPE.cluster)?.size, 0, 'not claimed before it is taken')
    finish([])
    await lines(2)
    t.equal(client.initialVersions.get(TYPE.cluster)?.size, 1)
    finish([problem('a', 'port', 'is silly')])
    await lines(3)
    t.not(acked(TYPE.cluster), '', 'a listener waits for the answer to its clusters')
    t.match(server.clients()[0]?.types[TYPE.endpoints], { lastError: 'a: port: is silly' })
    t.same(log, ['Cluster a', 'ClusterLoadAssignment a', 'Listener l'])
    // The server goes while the last is not taken yet: it comes again.
    await server.close(0)
    finish([])
    client.stop()
  },
)

t.test('after a reconnect only the differences come', async (t) => {
  const { cache, server, target } = await listen(t)
  cache.set(
    new Map([
      [TYPE.cluster, byName(cluster('a'), cluster('b'), cluster('c'))],
      [TYPE.endpoints, byName(endpoints('a'), endpoints('b'))],
    ]),
  )
  const { client, log, lines, until } = record(t, target)
  client.subscribe(TYPE.endpoints, ['a', 'b'])
  client.subscribe(TYPE.cluster, '*')
  client.start()
  await until(() => (client.initialVersions.get(TYPE.endpoints)?.size ?? 0) === 2)
  t.equal(log[0], 'Cluster +a +b +c', 'clusters first, whatever the order of the calls')
  await server.close(0)
  await until(() => client.state.phase === 'waiting')
  t.equal(client.initialVersions.get(TYPE.cluster)?.size, 3, 'what it has it keeps')

  log.length = 0
  const second = serve()
  t.teardown(() => second.server.close(0))
  second.cache.set(
    new Map([
      [TYPE.cluster, byName(cluster('a'), cluster('b', 2))],
      [TYPE.endpoints, byName(endpoints('a'), endpoints('b', 81))],
    ]),
  )
  await second.server.listen({ host: '127.0.0.1', port: Number(target.address.split(':')[1]) })
  await until(() => log.some((line) => line.endsWith('-c')))
  await lines(3)
  t.same(
    log.filter((line) => line.startsWith('Cluster ')),
    ['Cluster +b', 'Cluster -c'],
  )
  const assigned = log.filter((line) => line.startsWith('ClusterLoad'))
  t.notOk(
    assigned.some((line) => line.includes('+a')),
    'what did not change is not sent',
  )
  t.ok(assigned.every((line) => line === 'ClusterLoadAssignment +b'))
})

t.test('a run that starts with the versions of the last one is sent the differences', async (t) => {
  const { cache, target } = await listen(t)
  cache.setType(TYPE.cluster, byName(cluster('a'), cluster('b')))
  const initialVersions = new Map([
    [
      TYPE.cluster,
      new Map([
        ['a', cluster('a').version],
        ['gone', 'v'],
      ]),
    ],
  ])
  const { client, log, lines } = record(t, target, { initialVersions })
  client.subscribe(TYPE.cluster, '*')
  client.start()
  await lines(2)
  t.same(log, ['Cluster +b', 'Cluster -gone'])
})

t.test('subscribing while an update is taken is told before the update is acknowledged', async (t) => {
  const { cache, server, target } = await listen(t)
  cache.set(
    new Map([
      [TYPE.cluster, byName(cluster('a'))],
      [TYPE.endpoints, byName(endpoints('a'))],
      [TYPE.listener, byName(listener('l'))],
    ]),
  )
  const order: string[] = []
  const client: XdsClient = new XdsClient({
    target,
    node: () => NODE,
    onUpdate(typeUrl, { upserted }) {
      order.push(typeUrl)
      if (typeUrl === TYPE.cluster)
        client.subscribe(
          TYPE.endpoints,
          upserted.map((one) => one.name),
        )
      if (typeUrl === TYPE.listener) done.emit('done')
      return []
    },
  })
  const done = new EventEmitter()
  t.teardown(() => client.stop())
  client.subscribe(TYPE.listener, '*')
  client.subscribe(TYPE.cluster, '*')
  client.start()
  await once(done, 'done')
  t.same(
    order,
    [TYPE.cluster, TYPE.endpoints, TYPE.listener],
    'so the listener finds its upstream with endpoints',
  )
  t.equal(server.clients().length, 1)
})

t.test('a receiver that throws refuses, and the client lives', async (t) => {
  const { cache, server, target } = await listen(t)
  cache.setType('k', byName(plain('a', '1')))
  const calls = new EventEmitter()
  let count = 0
  const { client } = record(t, target, {
    onUpdate() {
      calls.emit('call')
      if (++count === 1) throw new Error('boom')
      return []
    },
  })
  client.subscribe('k', '*')
  client.start()
  await once(calls, 'call')
  client.subscribe('other', '*')
  await once(calls, 'call')
  t.match(server.clients()[0]?.types['k'], { lastError: /boom/ })
})

const uri = (der: Uint8Array) => new X509Certificate(der).subjectAltName ?? ''

async function tlsOf(ca: Ca, serviceAccount: string, expected: string): Promise<ClientTls> {
  const { certificatePem, privateKeyPem } = await ca.issue({ namespace: 'ns', serviceAccount })
  const verifyPeer = (der: Uint8Array) =>
    uri(der).endsWith(`/sa/${expected}`) ? undefined : new Error(`not ${expected}: ${uri(der)}`)
  return { certificatePem, privateKeyPem, caPem: ca.bundlePem, verifyPeer }
}

t.test('mTLS: both sides are proved, and a renewed certificate is used by the next stream', async (t) => {
  const ca = await createCa({ trustDomain: 'one.example' })
  const other = await createCa({ trustDomain: 'two.example' })
  const served = serve()
  t.teardown(() => served.server.close(0))
  const issued = await ca.issue({ namespace: 'ns', serviceAccount: 'discovery' })
  const context = { cert: issued.certificatePem, key: issued.privateKeyPem, ca: ca.bundlePem }
  const at = await served.server.listen({ host: '127.0.0.1', port: 0, tls: context })
  const address = 'port' in at ? `127.0.0.1:${at.port}` : ''
  served.cache.setType('k', byName(plain('a', '1')))

  let tls: ClientTls | undefined
  const { client, until, lines } = record(t, { address, tls: () => tls })
  client.subscribe('k', '*')
  client.start()
  t.match(client.state, { phase: 'waiting', lastError: /no certificate to present yet/ })
  tls = await tlsOf(ca, 'first', 'discovery')
  await lines(1)
  t.match(uri(served.peers[0]?.certificate ?? Buffer.alloc(0)), /one.example\/ns\/ns\/sa\/first/)

  tls = await tlsOf(ca, 'second', 'discovery')
  client.reconnect()
  await lines(2)
  t.match(uri(served.peers[1]?.certificate ?? Buffer.alloc(0)), /sa\/second/)

  await t.test('the server renews without dropping a stream', async (t) => {
    const renewed = await ca.issue({ namespace: 'ns', serviceAccount: 'renewed' })
    served.server.setSecureContext({
      cert: renewed.certificatePem,
      key: renewed.privateKeyPem,
      ca: ca.bundlePem,
    })
    served.cache.setType('k', byName(plain('a', '2')))
    await lines(3)
    t.equal(client.state.phase, 'connected')
    client.reconnect()
    await until(() => client.state.phase === 'waiting')
    t.match(client.state.lastError, /not discovery: .*renewed/, 'the next stream sees the new certificate')
  })

  await t.test('a stranger gets nothing', async (t) => {
    const count = served.peers.length
    const foreign = await tlsOf(other, 'first', 'renewed')
    const stranger = record(t, { address, tls: () => ({ ...foreign, caPem: ca.bundlePem }) })
    stranger.client.subscribe('k', '*')
    stranger.client.start()
    await stranger.until(() => stranger.client.state.phase === 'waiting')
    const distrustful = record(t, { address, tls: () => foreign })
    distrustful.client.subscribe('k', '*')
    distrustful.client.start()
    await distrustful.until(() => distrustful.client.state.phase === 'waiting')
    t.equal(served.peers.length, count)
  })
})

t.test('a server that hangs is noticed, and costs nothing that is there', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'xds-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const path = join(folder, 'xds.sock')
  const script = fileURLToPath(new URL('hanging-server.ts', import.meta.url))
  const child = spawn(process.execPath, [script, path], { stdio: ['ignore', 'pipe', 'inherit'] })
  t.teardown(() => child.kill('SIGKILL'))
  await once(child.stdout, 'data')
  const { client, log, lines, until } = record(
    t,
    { path },
    { keepalive: { timeMs: 100, timeoutMs: 100 }, connectTimeoutMs: 300 },
  )
  client.subscribe(TYPE.cluster, '*')
  client.start()
  await lines(1)
  child.kill('SIGSTOP')
  await until(() => client.state.phase === 'waiting')
  t.equal(client.initialVersions.get(TYPE.cluster)?.size, 1)
  child.kill('SIGCONT')
  await lines(2)
  t.same(log, ['Cluster +a', 'Cluster'], 'back, and nothing had to be sent again')
})
