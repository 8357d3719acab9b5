import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import t from 'tap'
import { createCa } from '../../src/identity/ca.ts'
import { TYPE } from '../../src/xds/types.ts'
import {
  allow,
  backend,
  credentialSecret,
  endpoints,
  gateway,
  gatewayListener,
  gone,
  readAll,
  SNI,
  trustSecret,
  upstream,
  uriPrincipal,
} from './support.ts'

/** Connects, sends, reads to the end without ever being a TLS client. */
async function raw(port: number, bytes: Buffer | string): Promise<Buffer> {
  const socket = connect({ host: '127.0.0.1', port, allowHalfOpen: true })
  socket.write(bytes)
  const answer = await readAll(socket)
  socket.destroy()
  return answer
}

const captured = new WeakMap<Socket, Buffer>()

t.test('mTLS through the gateway to a backend: every byte, one log line', async (t) => {
  const target = await backend()
  const world = await gateway(target)
  const client = await world.connect({ ALPNProtocols: ['istio-peer-exchange', 'istio'] })
  t.equal(client.alpnProtocol, 'istio')
  client.end('hello')
  t.equal((await readAll(client)).toString(), 'hello')
  const [line] = await world.proxy.lines(1)
  t.match(line, {
    listener: 'eastwest',
    upstream: SNI,
    host: 'productpage.bookinfo.svc.cluster.local',
    port: 9080,
    sni: SNI,
    peerId: 'spiffe://cluster-1.example/ns/bookinfo/sa/sleep',
    alpn: 'istio',
    tlsVersion: 'TLSv1.3',
    rule: 'everyone',
    endpoint: `127.0.0.1:${target.port}`,
    bytesIn: 5,
    bytesOut: 5,
    flag: '-',
  })
  t.ok((line?.handshakeMs ?? -1) >= 0 && (line?.connectMs ?? -1) >= 0)
  t.equal(world.proxy.log.length, 1)
  await world.proxy.engine.close()
  await target.close()
})

t.test('names that lead nowhere: alert 112, the same bytes, no crypto, no connect', async (t) => {
  const target = await backend()
  const world = await gateway(target)
  world.proxy.put(TYPE.cluster, upstream('known.example'))
  const refuse = async (servername: string) => {
    const client = world.open({ servername })
    const [error] = (await once(client, 'error')) as [NodeJS.ErrnoException]
    return error.code
  }
  for (const name of [
    'unknown.example',
    'blackhole',
    'BlackHole',
    `${SNI}.x`,
    '*.bookinfo.svc.cluster.local',
  ]) {
    t.equal(await refuse(name), 'ERR_SSL_TLSV1_UNRECOGNIZED_NAME', name)
  }
  t.equal(await refuse(''), 'ERR_SSL_TLSV1_UNRECOGNIZED_NAME', 'no name')
  world.proxy.engine.update(TYPE.cluster, [], ['known.example'])
  t.equal(await refuse('known.example'), 'ERR_SSL_TLSV1_UNRECOGNIZED_NAME', 'a name that was withdrawn')
  const upper = await world.connect({ servername: SNI.toUpperCase() })
  upper.end()
  await gone(upper.resume())
  t.pass('upper case is the same name')
  const lines = await world.proxy.lines(8)
  t.ok(lines.slice(0, 7).every(({ flag, handshakeMs }) => flag === 'TLS_SNI' && handshakeMs === -1))
  t.ok(lines.slice(0, 7).every(({ reason }) => reason !== ''))
  t.equal(target.bytes, 0)
  await world.proxy.engine.close()
  await target.close()
})

t.test('the refusal is exactly seven bytes and an end', async (t) => {
  const target = await backend()
  const world = await gateway(target)
  const trap = await backend((socket) => {
    socket.once('data', (chunk) => captured.set(socket, chunk))
  })
  for (const servername of ['unknown.example', '', '10.0.0.1.']) {
    const client = world.open({ port: trap.port, servername })
    client.on('error', () => {})
    const count = trap.accepts
    while (trap.accepts === count) await new Promise((resolve) => setImmediate(resolve))
    const socket = trap.sockets.at(-1) as Socket
    while (!captured.has(socket)) await new Promise((resolve) => setImmediate(resolve))
    client.destroy()
    const answer = await raw(world.port, captured.get(socket) ?? '')
    t.equal(answer.toString('hex'), '15030300020270', servername || 'no name')
  }
  for (const bytes of ['GET / HTTP/1.1\r\n\r\n', 'SSH-2.0-x\r\n', 'PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n']) {
    t.equal((await raw(world.port, bytes)).length, 0, `${bytes.trim()}: closed without a word`)
  }
  t.equal(
    (await raw(world.port, Buffer.from([21, 3, 1, 0, 2, 2, 40]))).toString('hex'),
    '1503030002020a',
    'alert first',
  )
  t.equal(target.accepts, 0)
  t.equal(world.proxy.engine.status().connections.open, 0)
  await trap.close()
  await world.proxy.engine.close()
  await target.close()
})

t.test('strangers never cause a connect upstream', async (t) => {
  const target = await backend((socket) => socket.write('banner: server speaks first'))
  const world = await gateway(target, {
    rbac: allow({
      'only-frontend': [uriPrincipal('exact', 'spiffe://cluster-1.example/ns/bookinfo/sa/frontend')],
    }),
  })
  const stranger = await createCa({ trustDomain: 'cluster-1.example' })
  const third = await createCa({ trustDomain: 'cluster-3.example' })
  const outsider = await stranger.issue({ namespace: 'bookinfo', serviceAccount: 'frontend' })
  const unknown = await third.issue({ namespace: 'bookinfo', serviceAccount: 'frontend' })
  const frontend = await world.peer.issue({ namespace: 'bookinfo', serviceAccount: 'frontend' })
  const attempt = async (pem: { certificatePem: string; privateKeyPem: string } | undefined, extra = {}) => {
    const client = world.open({ cert: pem?.certificatePem, key: pem?.privateKeyPem, ...extra })
    client.on('error', () => {})
    return (await readAll(client)).toString()
  }
  t.equal(await attempt(outsider), '', 'another CA with our trust domain')
  t.equal(await attempt(unknown), '', 'unknown trust domain')
  t.equal(await attempt(undefined), '', 'no certificate')
  t.equal(await attempt(undefined, { maxVersion: 'TLSv1.2' }), '', 'no certificate, TLS 1.2')
  t.equal(await attempt(world.client), '', 'known but denied: not even the banner')
  const lines = await world.proxy.lines(5)
  t.same(
    lines.map(({ flag }) => flag),
    ['ID_REFUSED', 'ID_REFUSED', 'ID_REFUSED', 'ID_REFUSED', 'RBAC_DENIED'],
  )
  t.match(lines[4], { peerId: 'spiffe://cluster-1.example/ns/bookinfo/sa/sleep', reason: /no policy allows/ })
  t.equal(target.accepts, 0, 'no connect, no byte')
  const allowed = await world.connect({ cert: frontend.certificatePem, key: frontend.privateKeyPem })
  const [banner] = (await once(allowed, 'data')) as [Buffer]
  t.match(banner.toString(), /^banner/, 'the allowed one is served')
  allowed.destroy()
  await world.proxy.engine.close()
  await target.close()
})

t.test('what a client is told when its handshake fails', async (t) => {
  const target = await backend()
  const world = await gateway(target)
  const told = async (options: object) => {
    const client = world.open(options)
    client.resume()
    const [error] = (await once(client, 'error')) as [NodeJS.ErrnoException]
    return error.code
  }
  const nobody = { cert: undefined, key: undefined }
  t.equal(await told(nobody), 'ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED')
  t.equal(await told({ ...nobody, maxVersion: 'TLSv1.2' }), 'ERR_SSL_SSL/TLS_ALERT_HANDSHAKE_FAILURE')
  t.equal(
    await told({ ALPNProtocols: ['istio-peer-exchange'] }),
    'ERR_SSL_TLSV1_ALERT_NO_APPLICATION_PROTOCOL',
  )
  const lines = await world.proxy.lines(3)
  t.same(
    lines.map(({ flag }) => flag),
    ['ID_REFUSED', 'ID_REFUSED', 'TLS_HANDSHAKE'],
  )
  const session = await world.connect({ ALPNProtocols: ['unheard-of', 'h2'] })
  t.equal(session.alpnProtocol, 'h2', "the server's order")
  session.destroy()
  t.equal(target.bytes, 0)
  await Promise.all([world.proxy.engine.close(), target.close()])
})

t.test('a policy change cuts open connections within a second, and says so', async (t) => {
  const target = await backend()
  const world = await gateway(target)
  const client = await world.connect()
  client.on('error', () => {})
  client.write('x')
  await once(client, 'data')
  const closed = gone(client)
  const began = Date.now()
  world.proxy.put(
    TYPE.listener,
    gatewayListener({
      rbac: allow({ nobody: [uriPrincipal('exact', 'spiffe://cluster-1.example/nobody')] }),
    }),
  )
  await closed
  t.ok(Date.now() - began < 1000)
  t.match((await world.proxy.lines(1))[0], {
    flag: 'RBAC_DENIED',
    reason: /^after a change: no policy allows/,
  })
  t.equal(await world.proxy.port('eastwest'), world.port, 'the socket stayed')
  await world.proxy.engine.close()
  await target.close()
})

t.test('a trust domain that is taken out of the bundles is cut', async (t) => {
  const target = await backend()
  const world = await gateway(target)
  const client = await world.connect()
  client.on('error', () => {})
  client.write('x')
  await once(client, 'data')
  const closed = gone(client)
  world.proxy.put(TYPE.secret, trustSecret([world.home]))
  await closed
  t.match((await world.proxy.lines(1))[0], { flag: 'ID_REFUSED', reason: /^after a change/ })
  await world.proxy.engine.close()
  await target.close()
})

t.test('a connection does not outlive the certificate of its peer', async (t) => {
  const target = await backend()
  const world = await gateway(target)
  const brief = await world.peer.issue({ namespace: 'bookinfo', serviceAccount: 'brief', lifetimeMs: 1_500 })
  const client = await world.connect({ cert: brief.certificatePem, key: brief.privateKeyPem })
  client.on('error', () => {})
  await gone(client)
  t.match((await world.proxy.lines(1))[0], { flag: 'ID_EXPIRED' })
  await world.proxy.engine.close()
  await target.close()
})

t.test('certificates rotate under load without a failure', async (t) => {
  const target = await backend()
  const world = await gateway(target)
  let running = true
  let served = 0
  const load = Array.from({ length: 4 }, async () => {
    while (running) {
      const client = await world.connect()
      client.end(`${served}`)
      if ((await readAll(client)).length > 0) served += 1
    }
  })
  const serials = new Set<string>()
  for (let i = 0; i < 10; i += 1) {
    world.proxy.put(
      TYPE.secret,
      credentialSecret(await world.home.issue({ namespace: 'eastwest', serviceAccount: 'gateway' })),
    )
    const client = await world.connect()
    serials.add(client.getPeerX509Certificate()?.serialNumber ?? '')
    client.destroy()
  }
  running = false
  await Promise.all(load)
  t.equal(serials.size, 10, 'each new certificate was shown at once')
  t.ok(served > 10)
  const flags = new Set(world.proxy.log.map(({ flag }) => flag))
  t.notOk(flags.has('TLS_HANDSHAKE') || flags.has('ID_REFUSED') || flags.has('BUG'))
  await world.proxy.engine.close()
  await target.close()
})

t.test('endpoints change under an open connection; none left is UH', async (t) => {
  const first = await backend((socket) => socket.end('first'))
  const second = await backend((socket) => socket.end('second'))
  const world = await gateway(first)
  const ask = async () => (await readAll(await world.connect())).toString()
  t.equal(await ask(), 'first')
  world.proxy.put(TYPE.endpoints, endpoints(SNI, [{ port: second.port }]))
  t.equal(await ask(), 'second')
  world.proxy.put(TYPE.endpoints, endpoints(SNI, []))
  t.equal(await ask(), '')
  t.match((await world.proxy.lines(3))[2], { flag: 'UH', reason: /no healthy upstream: .* has no endpoints/ })
  await world.proxy.engine.close()
  await Promise.all([first.close(), second.close()])
})

t.test('silence and half hellos end at the deadline', async (t) => {
  const target = await backend()
  const world = await gateway(target, { handshakeTimeoutS: 0.3 })
  const began = Date.now()
  t.equal((await raw(world.port, '')).length, 0)
  t.equal((await raw(world.port, Buffer.from([22, 3, 1]))).length, 0)
  t.ok(Date.now() - began < 2_000)
  const lines = await world.proxy.lines(2)
  t.ok(lines.every(({ flag, reason }) => flag === 'TLS_HELLO' && /within 300 ms/.test(reason)))
  await world.proxy.engine.close()
  await target.close()
})

t.test('64 MB each way under backpressure, exact', async (t) => {
  const target = await backend()
  const world = await gateway(target)
  const client = await world.connect()
  const block = randomBytes(1 << 20)
  const sent = createHash('sha256')
  const got = createHash('sha256')
  let received = 0
  client.on('data', (chunk: Buffer) => {
    got.update(chunk)
    received += chunk.length
    // A reader that stops now and then.
    if (received % 7 === 0) {
      client.pause()
      setImmediate(() => client.resume())
    }
  })
  for (let i = 0; i < 64; i += 1) {
    sent.update(block)
    if (!client.write(block)) await once(client, 'drain')
  }
  client.end()
  await once(client, 'end')
  t.equal(received, 64 << 20)
  t.equal(got.digest('hex'), sent.digest('hex'))
  t.match((await world.proxy.lines(1))[0], { bytesIn: 64 << 20, bytesOut: 64 << 20, flag: '-' })
  await world.proxy.engine.close()
  await target.close()
})
