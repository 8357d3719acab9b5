import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import { connect } from 'node:tls'
import fc from 'fast-check'
import t from 'tap'
import { ALERT, alertRecord, type HelloResult, parseClientHello } from '../../src/proxy/client-hello.ts'
import { HelloBuffer } from '../../src/proxy/hello-buffer.ts'

const NAME = 'outbound_.9080_._.productpage.bookinfo.svc.cluster.local'

/** What a client sends first, as recorded on a real socket. */
async function record(run: (port: number) => () => void): Promise<Buffer> {
  const server = createServer()
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const stop = run((server.address() as AddressInfo).port)
  const [socket] = await once(server, 'connection')
  const chunks: Buffer[] = []
  for await (const chunk of socket) {
    chunks.push(chunk)
    if (parseClientHello(Buffer.concat(chunks)).kind !== 'incomplete') break
  }
  stop()
  server.close()
  return Buffer.concat(chunks)
}

const nodeHello = (options: object) =>
  record((port) => {
    const client = connect({
      host: '127.0.0.1',
      port,
      servername: NAME,
      rejectUnauthorized: false,
      ...options,
    })
    client.on('error', () => {})
    return () => client.destroy()
  })

const opensslHello = (...args: string[]) =>
  record((port) => {
    const child = spawn('openssl', ['s_client', '-connect', `127.0.0.1:${port}`, ...args], {
      stdio: ['pipe', 'ignore', 'ignore'],
    })
    return () => child.kill('SIGKILL')
  })

// A ClientHello written by hand, so that each part of it can be wrong.
interface Parts {
  readonly version?: number
  readonly sessionId?: Buffer
  readonly ciphers?: Buffer
  readonly compression?: Buffer
  readonly extensions?: readonly Buffer[]
  readonly tail?: Buffer
}

const u8 = (n: number) => Buffer.from([n])
const u16 = (n: number) => Buffer.from([n >> 8, n & 0xff])
const v8 = (...parts: Buffer[]) => Buffer.concat([u8(Buffer.concat(parts).length), ...parts])
const v16 = (...parts: Buffer[]) => Buffer.concat([u16(Buffer.concat(parts).length), ...parts])
const extension = (type: number, data: Buffer) => Buffer.concat([u16(type), v16(data)])
const hostName = (name: Buffer | string) => Buffer.concat([u8(0), v16(Buffer.from(name))])
const sni = (...names: Buffer[]) => extension(0, v16(...names))
const versions = (...list: number[]) => extension(43, v8(...list.map(u16)))
const alpn = (...names: string[]) => extension(16, v16(...names.map((name) => v8(Buffer.from(name)))))

function message(parts: Parts = {}): Buffer {
  const { version = 0x0303, sessionId = Buffer.alloc(32), ciphers = u16(0x1301), compression = u8(0) } = parts
  const { extensions = [sni(hostName(NAME)), versions(0x0304)], tail = Buffer.alloc(0) } = parts
  const body = Buffer.concat([
    u16(version),
    Buffer.alloc(32, 7),
    v8(sessionId),
    v16(ciphers),
    v8(compression),
    v16(...extensions),
    tail,
  ])
  return Buffer.concat([u8(1), u8(body.length >> 16), u16(body.length & 0xffff), body])
}

function records(handshake: Buffer, size = 16_384): Buffer {
  const out: Buffer[] = []
  for (let at = 0; at < handshake.length; at += size) {
    out.push(Buffer.from([22, 3, 1]), v16(handshake.subarray(at, at + size)))
  }
  return Buffer.concat(out)
}

const parse = (parts: Parts) => parseClientHello(records(message(parts)))

function expectAlert(t: Tap, result: HelloResult, alert: number | undefined, name: string): void {
  t.match(result, { kind: 'error' }, name)
  t.equal(result.kind === 'error' ? result.alert : -1, alert, `${name}: alert`)
}
type Tap = Pick<typeof t, 'match' | 'equal'>

t.test('reads what Node and OpenSSL send, whole and after every prefix', async (t) => {
  const hellos: [string, Buffer][] = [
    ['node', await nodeHello({ ALPNProtocols: ['istio-peer-exchange', 'istio'] })],
    ['node, TLS 1.2', await nodeHello({ maxVersion: 'TLSv1.2' })],
    ['node, post-quantum', await nodeHello({ ecdhCurve: 'X25519MLKEM768:X25519' })],
    ['openssl', await opensslHello('-servername', NAME, '-alpn', 'h2,http/1.1')],
  ]
  for (const [who, bytes] of hellos) {
    const result = parseClientHello(bytes)
    t.match(result, { kind: 'hello', hello: { sni: NAME } }, who)
    let wrong = 0
    for (let length = 0; length < bytes.length; length += 1) {
      if (parseClientHello(bytes.subarray(0, length)).kind !== 'incomplete') wrong += 1
    }
    t.equal(wrong, 0, `${who}: every prefix is incomplete`)
  }
  const [, first] = hellos
  t.ok(first)
  t.match(parseClientHello(hellos[0]?.[1] ?? Buffer.alloc(0)), {
    hello: { alpn: ['istio-peer-exchange', 'istio'] },
  })
  t.match(parseClientHello(hellos[3]?.[1] ?? Buffer.alloc(0)), { hello: { alpn: ['h2', 'http/1.1'] } })
  t.match(parseClientHello(await opensslHello('-noservername')), { kind: 'hello', hello: { sni: undefined } })
})

t.test('puts the message together from any records and segments', async (t) => {
  const bytes = await nodeHello({ ecdhCurve: 'X25519' })
  const handshake = bytes.subarray(5)
  t.match(
    parseClientHello(records(handshake, 8)),
    { kind: 'hello', hello: { sni: NAME } },
    'records of 8 bytes',
  )
  fc.assert(
    fc.property(
      fc.integer({ min: Math.ceil(handshake.length / 64), max: 600 }),
      fc.array(fc.integer({ min: 1, max: 300 }), { minLength: 1 }),
      (size, cuts) => {
        const wire = records(handshake, size)
        const buffer = new HelloBuffer()
        let result: HelloResult = { kind: 'incomplete' }
        let at = 0
        for (let turn = 0; at < wire.length && result.kind === 'incomplete'; turn += 1) {
          const cut = cuts[turn % cuts.length] ?? 1
          result = buffer.push(wire.subarray(at, at + cut))
          at += cut
        }
        return (
          result.kind === 'hello' && result.hello.sni === NAME && buffer.received.equals(wire.subarray(0, at))
        )
      },
    ),
    { seed: 1, numRuns: 200 },
  )
  const one = new HelloBuffer()
  let last: HelloResult = { kind: 'incomplete' }
  for (const byte of bytes) last = one.push(Buffer.from([byte]))
  t.match(last, { kind: 'hello', hello: { sni: NAME } }, 'segments of one byte')
  expectAlert(
    t,
    parseClientHello(records(handshake, 1)),
    ALERT.decodeError,
    'more records than a ClientHello is worth',
  )
})

t.test('names: one canonical spelling, everything else is unrecognized_name', async (t) => {
  t.match(
    parse({ extensions: [sni(hostName('ProductPage.BookInfo'))] }),
    { hello: { sni: 'productpage.bookinfo' } },
    'lower case',
  )
  t.match(parse({ extensions: [] }), { kind: 'hello', hello: { sni: undefined } }, 'no extension at all')
  const bad: [string, Buffer | string][] = [
    ['empty', ''],
    ['trailing dot', `${NAME}.`],
    ['IPv4', '10.0.0.1'],
    ['IPv6', '::1'],
    ['NUL', 'a\0b'],
    ['space', 'a b'],
    ['non-ASCII', 'prodüct'],
    ['invalid UTF-8', Buffer.from([0x61, 0xff])],
    ['256 bytes', 'a'.repeat(256)],
    ['5,000 bytes', 'a'.repeat(5000)],
  ]
  for (const [name, value] of bad)
    expectAlert(t, parse({ extensions: [sni(hostName(value))] }), ALERT.unrecognizedName, name)
  t.match(parse({ extensions: [sni(hostName('a'.repeat(255)))] }), { kind: 'hello' }, '255 bytes are a name')
})

t.test('broken structures', async (t) => {
  const cases: [string, number | undefined, HelloResult][] = [
    ['empty name list', 50, parse({ extensions: [extension(0, v16())] })],
    ['two names', 50, parse({ extensions: [sni(hostName('a'), hostName('b'))] })],
    ['name of another type', 50, parse({ extensions: [sni(Buffer.concat([u8(1), v16(Buffer.from('a'))]))] })],
    ['the extension twice', 47, parse({ extensions: [sni(hostName('a')), sni(hostName('a'))] })],
    ['session id of 33 bytes', 50, parse({ sessionId: Buffer.alloc(33) })],
    ['odd cipher suites', 50, parse({ ciphers: Buffer.alloc(3) })],
    ['no cipher suite', 50, parse({ ciphers: Buffer.alloc(0) })],
    ['no compression method', 50, parse({ compression: Buffer.alloc(0) })],
    ['bytes after the extensions', 50, parse({ tail: u8(0) })],
    ['empty ALPN list', 50, parse({ extensions: [extension(16, v16())] })],
    ['empty protocol', 50, parse({ extensions: [alpn('')] })],
    ['empty versions', 50, parse({ extensions: [versions()] })],
    ['TLS 1.1 only', 70, parse({ version: 0x0302, extensions: [] })],
    ['TLS 1.1 by extension', 70, parse({ extensions: [versions(0x0302, 0x0301)] })],
    ['only GREASE', 70, parse({ extensions: [versions(0x0a0a)] })],
    ['16 KB and more', 50, parse({ extensions: [sni(hostName(NAME)), extension(21, Buffer.alloc(17_000))] })],
    ['claims 128 KB', 47, parseClientHello(Buffer.from([22, 3, 1, 0, 4, 1, 2, 0, 0]))],
    ['a record of 2^14+257', 22, parseClientHello(Buffer.from([22, 3, 1, 0x41, 1]))],
    ['an empty record', 10, parseClientHello(Buffer.from([22, 3, 1, 0, 0]))],
    ['ServerHello', 10, parseClientHello(Buffer.from([22, 3, 1, 0, 4, 2, 0, 0, 0]))],
    ['an alert first', 10, parseClientHello(Buffer.from([21, 3, 1, 0, 2, 2, 40]))],
    ['application data first', 10, parseClientHello(Buffer.from([23, 3, 3, 0, 1, 0]))],
    ['SSL 2', 70, parseClientHello(Buffer.from([0x80, 0x2e, 1, 0, 2]))],
    ['SSL 3 of version 2', 70, parseClientHello(Buffer.from([22, 2, 0]))],
    ['HTTP', undefined, parseClientHello(Buffer.from('GET / HTTP/1.1\r\n'))],
    ['HTTP/2', undefined, parseClientHello(Buffer.from('PRI * HTTP/2.0'))],
    ['PROXY v1', undefined, parseClientHello(Buffer.from('PROXY TCP4 1.1.1.1'))],
    ['PROXY v2', undefined, parseClientHello(Buffer.from('\r\n\r\n\0\r\nQUIT\n', 'latin1'))],
    ['SSH', undefined, parseClientHello(Buffer.from('SSH-2.0-x'))],
  ]
  for (const [name, alert, result] of cases) expectAlert(t, result, alert, name)
  t.match(
    parse({ extensions: [versions(0x0a0a, 0x0304), extension(0x1a1a, Buffer.alloc(0)), sni(hostName('a'))] }),
    { kind: 'hello' },
    'GREASE',
  )
  t.equal(alertRecord(112).toString('hex'), '15030300020270')
})

t.test('garbage: never throws, never takes longer than its bytes', async (t) => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 400 }), (bytes) => {
      parseClientHello(Buffer.from(bytes))
    }),
    { seed: 2, numRuns: 2_000 },
  )
  const good = records(message())
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat(good.length - 1), fc.nat(255)), { minLength: 1, maxLength: 8 }),
      (changes) => {
        const bytes = Buffer.from(good)
        for (const [at, value] of changes) bytes[at] = value
        const result = parseClientHello(bytes)
        if (
          result.kind === 'hello' &&
          result.hello.sni !== undefined &&
          /[^\x21-\x7e]|[A-Z]|\.$/.test(result.hello.sni)
        )
          return false
        return true
      },
    ),
    { seed: 3, numRuns: 5_000 },
  )
  t.pass()
})

// Only so that a machine without openssl says so in words.
t.before(() => execFileSync('openssl', ['version']))
