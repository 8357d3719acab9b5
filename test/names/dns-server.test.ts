import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { type AddressInfo, connect, createServer } from 'node:net'
import * as codec from 'dns-packet'
import fc from 'fast-check'
import t from 'tap'
import { silentLogger } from '../../src/lib/log.ts'
import type { Authority } from '../../src/proxy/names/authority.ts'
import { ANSWER_TTL_S, parseQuery } from '../../src/proxy/names/dns-message.ts'
import { DnsServer, type DnsServerOptions } from '../../src/proxy/names/dns-server.ts'
import { FrameReader, frame } from '../../src/proxy/names/dns-stream.ts'
import { NameTable } from '../../src/proxy/names/name-table.ts'

interface Scope {
  teardown(end: () => unknown): void
}
type Reply = Partial<codec.Packet> | 'silent'

const names = new NameTable()
names.set(
  new Map([
    ['productpage.bookinfo', ['127.240.3.7']],
    ['productpage.bookinfo.svc.cluster.local', ['127.240.3.7']],
    ['dual.bookinfo', ['127.240.3.8', '::1']],
    ['many.bookinfo', Array.from({ length: 60 }, (_, i) => `127.240.4.${i}`)],
  ]),
)

/** A resolver that answers what the test says, on UDP and TCP of one port, and counts. */
async function resolver(scope: Scope, answer: (question: codec.Question, tcp: boolean) => Reply) {
  const asked: string[] = []
  const respond = (message: Buffer, tcp: boolean): Buffer | undefined => {
    const query = codec.decode(message)
    const question = query.questions?.[0] as codec.Question
    asked.push(`${tcp ? 'tcp' : 'udp'} ${question.type} ${question.name}`)
    const reply = answer(question, tcp)
    if (reply === 'silent') return undefined
    return codec.encode({ type: 'response', id: query.id ?? 0, questions: [question], ...reply })
  }
  const tcp = createServer((socket) => {
    const reader = new FrameReader()
    socket.on('error', () => {})
    socket.on('data', (chunk: Buffer) => {
      for (const message of reader.push(chunk)) {
        const reply = respond(message, true)
        if (reply !== undefined) socket.write(frame(reply))
      }
    })
  })
  tcp.listen(0, '127.0.0.1')
  await once(tcp, 'listening')
  const { port } = tcp.address() as AddressInfo
  const udp = createSocket('udp4')
  udp.on('message', (message, from) => {
    const reply = respond(message, false)
    if (reply !== undefined) udp.send(reply, from.port, from.address)
  })
  udp.bind(port, '127.0.0.1')
  await once(udp, 'listening')
  scope.teardown(() => {
    udp.close()
    tcp.close()
  })
  return { host: '127.0.0.1', port, asked }
}

async function start(
  scope: Scope,
  upstreams: Authority[] = [],
  more: Partial<DnsServerOptions> = {},
): Promise<Authority> {
  const server = new DnsServer({ names, upstreams, logger: silentLogger, attemptMs: 400, ...more })
  const address = await server.listen('127.0.0.1', 0)
  scope.teardown(() => server.close())
  return address
}

async function sendRaw(to: Authority, message: Buffer): Promise<Buffer> {
  const socket = createSocket('udp4')
  socket.send(message, to.port, to.host)
  const [reply] = (await once(socket, 'message')) as [Buffer]
  socket.close()
  return reply
}

const query = (name: string, type: codec.RecordType, extra: Partial<codec.Packet> = {}) =>
  codec.encode({
    type: 'query',
    id: 4711,
    flags: codec.RECURSION_DESIRED,
    questions: [{ name, type }],
    ...extra,
  })

async function ask(to: Authority, name: string, type: codec.RecordType = 'A') {
  return codec.decode(await sendRaw(to, query(name, type)))
}

async function askTcp(to: Authority, ...messages: Buffer[]): Promise<codec.DecodedPacket[]> {
  const socket = connect(to)
  const reader = new FrameReader()
  const replies: codec.DecodedPacket[] = []
  for (const byte of Buffer.concat(messages.map(frame))) socket.write(Buffer.from([byte]))
  for await (const chunk of socket) {
    replies.push(...reader.push(chunk as Buffer).map((message) => codec.decode(message)))
    if (replies.length === messages.length) break
  }
  return replies
}

const data = (packet: codec.DecodedPacket) =>
  packet.answers?.map((a) => ('data' in a ? String(a.data) : '')) ?? []
const rcode = (packet: codec.DecodedPacket) => (packet as unknown as { rcode: string }).rcode

t.test(
  'answers A for its names, any case, with or without the dot, and keeps the case of the question',
  async (t) => {
    const dns = await start(t)
    const reply = await ask(dns, 'ProductPage.bookINFO')
    t.same(data(reply), ['127.240.3.7'])
    t.equal(reply.id, 4711)
    t.equal(reply.questions?.[0]?.name, 'ProductPage.bookINFO')
    t.equal(reply.answers?.[0]?.name, 'ProductPage.bookINFO')
    t.ok(reply.flag_aa && reply.flag_ra && reply.flag_rd)
    t.match(reply.answers, [{ ttl: ANSWER_TTL_S }])
    t.same(data(await ask(dns, 'productpage.bookinfo.svc.cluster.local.')), ['127.240.3.7'])
  },
)

t.test('AAAA, HTTPS and the rest of its names are NODATA, and never leave the sidecar', async (t) => {
  const upstream = await resolver(t, () => ({ answers: [{ type: 'AAAA', name: 'x', data: '::2' }] }))
  const dns = await start(t, [upstream])
  for (const type of ['AAAA', 'TXT', 'MX', 'UNKNOWN_65'] as codec.RecordType[]) {
    const reply = await ask(dns, 'productpage.bookinfo', type)
    t.equal(rcode(reply), 'NOERROR', type)
    t.same(reply.answers, [], type)
    t.equal(reply.authorities?.[0]?.type, 'SOA', type)
  }
  t.same(data(await ask(dns, 'dual.bookinfo', 'AAAA')), ['::1'])
  t.same(data(await ask(dns, 'dual.bookinfo', 'A')), ['127.240.3.8'])
  t.same(upstream.asked, [])
})

t.test('everything else is the answer of the resolver, with the id of the client', async (t) => {
  const upstream = await resolver(t, ({ name }) =>
    name === 'example.com'
      ? { answers: [{ type: 'A', name, ttl: 300, data: '192.0.2.1' }] }
      : { flags: 3 /* NXDOMAIN */ },
  )
  const dns = await start(t, [upstream])
  const reply = await ask(dns, 'example.com')
  t.equal(reply.id, 4711)
  t.same(data(reply), ['192.0.2.1'])
  t.equal(rcode(await ask(dns, 'reviews.bookinfo')), 'NXDOMAIN')
  t.same(upstream.asked, ['udp A example.com', 'udp A reviews.bookinfo'])
})

t.test(
  'the next resolver is asked when one is silent, refuses, or is not there; SERVFAIL when none answers',
  async (t) => {
    const silent = await resolver(t, () => 'silent')
    const refusing = await resolver(t, () => ({ flags: 5 }))
    const good = await resolver(t, ({ name }) => ({ answers: [{ type: 'A', name, data: '192.0.2.2' }] }))
    const gone = { host: '127.0.0.1', port: 9 }
    const dns = await start(t, [gone, refusing, silent, good])
    t.same(data(await ask(dns, 'example.com')), ['192.0.2.2'])
    const none = await start(t, [silent])
    t.equal(rcode(await ask(none, 'example.com')), 'SERVFAIL')
    t.equal(rcode(await ask(await start(t, []), 'example.com')), 'SERVFAIL')
    t.equal(rcode(await ask(await start(t, [refusing]), 'example.com')), 'REFUSED')
  },
)

t.test('an answer to another question, or with another id, is not taken', async (t) => {
  const forger = createSocket('udp4')
  forger.on('message', (message, from) => {
    const real = codec.decode(message)
    const id = real.id ?? 0
    const answers = (name: string, ip: string): codec.Answer[] => [{ type: 'A', name, data: ip }]
    const send = (packet: codec.Packet) =>
      forger.send(codec.encode({ type: 'response', ...packet }), from.port, from.address)
    send({ id: id ^ 1, questions: real.questions ?? [], answers: answers('example.com', '6.6.6.1') })
    send({ id, questions: [{ type: 'A', name: 'example.org' }], answers: answers('example.com', '6.6.6.2') })
    send({ id, questions: real.questions ?? [], answers: answers('example.com', '192.0.2.3') })
  })
  forger.bind(0, '127.0.0.1')
  await once(forger, 'listening')
  t.teardown(() => forger.close())
  const dns = await start(t, [{ host: '127.0.0.1', port: forger.address().port }])
  t.same(data(await ask(dns, 'example.com')), ['192.0.2.3'])
})

t.test('TCP: messages in pieces and several in one, forwarded over TCP', async (t) => {
  const upstream = await resolver(t, ({ name }) => ({ answers: [{ type: 'A', name, data: '192.0.2.4' }] }))
  const dns = await start(t, [upstream])
  const replies = await askTcp(dns, query('productpage.bookinfo', 'A'), query('example.com', 'A'))
  t.same(replies.map(data), [['127.240.3.7'], ['192.0.2.4']])
  t.same(upstream.asked, ['tcp A example.com'])
})

t.test(
  'an answer that UDP cannot carry is cut with TC, unless the client takes more; TCP has it whole',
  async (t) => {
    const dns = await start(t)
    const cut = await ask(dns, 'many.bookinfo')
    t.ok(cut.flag_tc)
    t.same(cut.answers, [])
    const opt = {
      type: 'OPT',
      name: '.',
      udpPayloadSize: 4096,
      flags: 0,
      options: [],
    } as unknown as codec.Answer
    const large = codec.decode(await sendRaw(dns, query('many.bookinfo', 'A', { additionals: [opt] })))
    t.equal(large.answers?.length, 60)
    t.equal(large.additionals?.[0]?.type, 'OPT', 'EDNS is answered with EDNS')
    const [whole] = await askTcp(dns, query('many.bookinfo', 'A'))
    t.equal(whole?.answers?.length, 60)
  },
)

t.test('a resolver that is this server itself is left out', async (t) => {
  const port = await new Promise<number>((resolve) => {
    const probe = createServer().listen(0, '127.0.0.1', () => {
      const found = (probe.address() as AddressInfo).port
      probe.close(() => resolve(found))
    })
  })
  const server = new DnsServer({ names, upstreams: [{ host: '127.0.0.1', port }], logger: silentLogger })
  await server.listen('127.0.0.1', port)
  t.teardown(() => server.close())
  t.equal(
    rcode(await ask({ host: '127.0.0.1', port }, 'example.com')),
    'SERVFAIL',
    'at once, not after a loop of timeouts',
  )
})

t.test('queries that wait are bounded', async (t) => {
  const silent = await resolver(t, () => 'silent')
  const dns = await start(t, [silent], { maxInFlight: 1, attemptMs: 5_000 })
  const waiting = createSocket('udp4')
  t.teardown(() => waiting.close())
  waiting.send(query('slow.example', 'A'), dns.port, dns.host)
  const before = Date.now()
  // The second one is sent once the first has reached the resolver.
  while (silent.asked.length === 0) await new Promise((resolve) => setImmediate(resolve))
  t.equal(rcode(await ask(dns, 'example.com')), 'SERVFAIL')
  t.ok(Date.now() - before < 4_000, 'without waiting')
  t.same(data(await ask(dns, 'productpage.bookinfo')), ['127.240.3.7'], 'our own names need no resolver')
})

t.test(
  'malformed messages: FORMERR or NOTIMP with the id, silence for responses; the server lives on',
  async (t) => {
    const dns = await start(t)
    const noQuestion = codec.encode({ type: 'query', id: 9 })
    t.equal(rcode(codec.decode(await sendRaw(dns, noQuestion))), 'FORMERR')
    const update = Buffer.from(query('productpage.bookinfo', 'A'))
    update.writeUInt16BE(5 << 11, 2)
    t.equal(rcode(codec.decode(await sendRaw(dns, update))), 'NOTIMP')
    const socket = createSocket('udp4')
    t.teardown(() => socket.close())
    socket.on('message', (reply) =>
      t.ok((reply.readUInt16BE(2) & 0x8000) !== 0, 'whatever is answered is a response'),
    )
    const whole = query('productpage.bookinfo', 'A')
    fc.assert(
      fc.property(fc.nat(whole.length - 1), fc.nat(255), fc.nat(whole.length), (at, byte, length) => {
        const broken = Buffer.from(whole)
        broken[at] = byte
        socket.send(broken.subarray(0, length), dns.port, dns.host)
      }),
      { seed: 7, numRuns: 100 }, // few enough for the socket's buffer,
    )
    t.same(data(await ask(dns, 'productpage.bookinfo')), ['127.240.3.7'])
  },
)

t.test('a UDP answer has a limit, whatever a client claims to take', async (t) => {
  const additionals = [{ type: 'OPT', name: '.', udpPayloadSize: 65_535 } as codec.Answer]
  const query = parseQuery(
    codec.encode({ type: 'query', id: 1, questions: [{ type: 'A', name: 'a.example' }], additionals }),
  )
  t.match(query, { ok: true, value: { udpSize: 4_096 } })
})
