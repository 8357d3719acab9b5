// Rows 1-18 of the catalogue that need no certificate: what comes before a handshake, or instead of one.
import { randomBytes } from 'node:crypto'
import type { Attack } from './catalogue.ts'
import { NAME } from './context.ts'
import {
  alpn,
  cut,
  extension,
  fragment,
  handshake,
  hello,
  helloBody,
  helloFor,
  hostName,
  keyShare,
  padding,
  record,
  refragment,
  serverNames,
  sni,
  supportedVersions,
  u16,
  usualExtensions,
  vector8,
  vector16,
} from './hello.ts'

const HOST = 'productpage.bookinfo.svc.cluster.local'
const usual = usualExtensions()
const message = (...more: Uint8Array[]) =>
  handshake(1, helloBody({ extensions: [sni(NAME), ...usual, ...more] }))
/** A good hello whose handshake message has exactly this many bytes after its header. */
const ofLength = (length: number) => {
  const short = message(padding(0)).length - 4
  return fragment(message(padding(length - short)), 16_384)
}
const withNames = (extensionBytes: Uint8Array) => hello({ extensions: [extensionBytes, ...usual] })
const withoutVersions = usual.filter((bytes) => bytes.readUInt16BE(0) !== 43)

type Sent = Buffer | string | readonly Buffer[]
const sends = (
  row: number,
  title: string,
  bytes: () => Sent,
  ours: string,
  envoy: string,
  listener?: string,
): Attack => ({
  row,
  title,
  run: (context) => context.send(bytes(), listener),
  ours,
  envoy,
})

const structure: readonly Attack[] = [
  {
    row: 1,
    title: 'a ClientHello in segments of one byte',
    run: (context) =>
      context.call({}, { segments: (bytes, flight) => (flight === 0 ? cut(bytes, 1) : [bytes]) }),
    ours: 'routed',
    envoy: 'routed',
  },
  ...[64, 8].map(
    (size): Attack => ({
      row: 2,
      title: `a ClientHello in records of ${size} bytes`,
      // A hello of Node's, which is longer, would be over the limit of records in the smaller ones.
      run: (context) =>
        size === 64
          ? context.call(
              {},
              { segments: (bytes, flight) => [flight === 0 ? refragment(bytes, size) : bytes] },
            )
          : context.send(fragment(message(), size)),
      ours: size === 64 ? 'routed' : 'answered',
      envoy: size === 64 ? 'routed' : 'answered',
    }),
  ),
  sends(2, 'a ClientHello in records of one byte', () => fragment(message(), 1), 'alert 50', 'answered'),
  sends(3, 'the longest ClientHello that is taken', () => ofLength(16_384), 'answered', 'cut'),
  sends(3, 'a ClientHello one byte longer', () => ofLength(16_385), 'alert 50', 'cut'),
  sends(
    3,
    'a ClientHello of 40 KB, padded',
    () => fragment(message(padding(40_000)), 16_384),
    'alert 50',
    'cut',
  ),
  sends(
    3,
    'a ClientHello of 40 KB, a session ticket',
    () => fragment(message(extension(35, Buffer.alloc(40_000))), 16_384),
    'alert 50',
    'cut',
  ),
  sends(
    4,
    'a handshake message that claims 128 KB',
    () => record(22, handshake(1, randomBytes(100), 1 << 17)),
    'alert 47',
    'cut',
  ),
  sends(
    4,
    'a record that claims 2^14 + 257 bytes',
    () => record(22, randomBytes(100), 0x0301, (1 << 14) + 257),
    'alert 22',
    'cut',
    'impatient',
  ),
  sends(
    4,
    '200 empty records',
    () => Buffer.concat(Array.from({ length: 200 }, () => record(22, Buffer.alloc(0)))),
    'alert 10',
    'cut',
  ),
  sends(
    5,
    'GREASE in suites, versions, groups, extensions and ALPN',
    () => greased(),
    'answered',
    'answered',
  ),
  sends(
    5,
    'extensions that nobody knows',
    () => helloFor(NAME, extension(0x1234, randomBytes(64)), extension(0xfe01, Buffer.alloc(0))),
    'answered',
    'answered',
  ),
  sends(5, 'a GREASE ECH extension', () => helloFor(NAME, ech()), 'answered', 'answered'),
  sends(
    6,
    'ECH whose outer name is not served',
    () => helloFor('public.example', ech()),
    'alert 112',
    'answered',
  ),
  sends(
    8,
    'two host names',
    () => withNames(serverNames(hostName(NAME), hostName('x.example'))),
    'alert 50',
    'cut',
  ),
  sends(
    8,
    'the same host name twice',
    () => withNames(serverNames(hostName(NAME), hostName(NAME))),
    'alert 50',
    'cut',
  ),
  sends(8, 'two server_name extensions', () => helloFor(NAME, sni('x.example')), 'alert 47', 'cut'),
  sends(8, 'two ALPN extensions', () => helloFor(NAME, alpn('h2'), alpn('istio')), 'alert 47', 'cut'),
  sends(
    8,
    'bytes after the extensions',
    () => hello({ extensions: [sni(NAME), ...usual], trailing: Buffer.from('x') }),
    'alert 50',
    'cut',
  ),
  sends(
    8,
    'a name longer than its extension',
    () => withNames(Buffer.concat([u16(0), u16(5), u16(200), Buffer.from('abc')])),
    'alert 50',
    'cut',
  ),
]

function greased(): Buffer {
  const grease = 0x1a1a
  return hello({
    ciphers: Buffer.concat([u16(grease), u16(0x1301), u16(0xc02b)]),
    extensions: [
      extension(grease, Buffer.alloc(0)),
      sni(NAME),
      extension(10, vector16(u16(grease), u16(29))),
      extension(13, vector16(u16(0x0403), u16(0x0804))),
      supportedVersions(grease, 0x0304, 0x0303),
      alpn('\x1a\x1a', 'istio'),
      extension(45, vector8(Buffer.from([1]))),
      keyShare(u16(grease), vector16(Buffer.from([0]))),
      extension(0x2a2a, Buffer.from([0])),
    ],
  })
}

/** `encrypted_client_hello`, outer: an HPKE suite, a config id, a key and a payload that mean nothing. */
function ech(): Buffer {
  return extension(
    0xfe0d,
    Buffer.concat([
      Buffer.from([0]),
      u16(1),
      u16(1),
      Buffer.from([7]),
      vector16(randomBytes(32)),
      vector16(randomBytes(144)),
    ]),
  )
}

const bytes = (...values: number[]) => Buffer.from(values)
const host = Buffer.from(HOST)
/** Names that lead nowhere, each refused with the same seven bytes. */
export const NAMES_THAT_LEAD_NOWHERE: readonly (readonly [
  row: number,
  title: string,
  name: string | Uint8Array,
  envoy?: string,
])[] = [
  [7, 'an empty name', '', 'cut'],
  [9, 'an IPv4 address', '10.0.0.1'],
  [9, 'an IPv6 address', '2001:db8::1'],
  [10, 'a trailing dot', `${NAME}.`],
  [11, 'a NUL in the name', `${NAME}\0.x`, 'cut'],
  [11, 'a name cut by a NUL', `${NAME}\0`, 'cut'],
  [11, 'a name of 256 bytes', 'a'.repeat(256), 'cut'],
  [11, 'a name of 5,000 bytes', 'a'.repeat(5_000), 'cut'],
  [12, 'a name in UTF-8', `outbound_.9080_._.produ\u212Atpage.bookinfo.svc.cluster.local`],
  [12, 'a name that is no UTF-8', Buffer.concat([host, bytes(0xff, 0xfe)])],
  [
    12,
    'a dotless i, which folds to i',
    NAME.replace('outbound', 'outbound').replace('bookinfo', 'book\u0131nfo'),
  ],
  [12, 'a space in the name', `${NAME} `],
  [13, 'a port with a leading zero', `outbound_.09080_._.${HOST}`],
  [13, 'a port that is none', `outbound_.65536_._.${HOST}`],
  [13, 'a port that is not served', `outbound_.9082_._.${HOST}`],
  [13, 'a subset', `outbound_.9080_.v1_.${HOST}`],
  [13, 'a subset that climbs', `outbound_.9080_._.._.${HOST}`],
  [13, 'two dots', `outbound_.9080_._..${HOST}`],
  [13, 'a label more', `outbound_.9080_._.x.${HOST}`],
  [13, 'a label behind', `${NAME}.x`],
  [13, 'another cluster domain', NAME.replace('cluster.local', 'cluster.other')],
  [13, "Envoy's form of the name", `outbound|9080||${HOST}`],
  [13, 'inbound', `inbound_.9080_._.${HOST}`],
  [13, 'the host alone', HOST],
  [13, 'the cluster that never exists', 'BlackHole'],
  [13, 'a name of every object', '__proto__'],
  [14, 'a wildcard', '*.bookinfo.svc.cluster.local'],
  [14, 'a wildcard of ours', `outbound_.9080_._.*.bookinfo.svc.cluster.local`],
]

const names: readonly Attack[] = [
  sends(7, 'no server name', () => hello({ extensions: usual }), 'alert 112', 'answered'),
  sends(7, 'no extensions', () => hello({ noExtensions: true }), 'alert 112', 'alert 40'),
  sends(7, 'an empty server name list', () => withNames(serverNames()), 'alert 50', 'cut'),
  {
    row: 10,
    title: 'the name in capitals',
    run: (context) => context.call({ servername: NAME.toUpperCase() }),
    ours: 'routed',
    envoy: 'routed',
  },
  ...NAMES_THAT_LEAD_NOWHERE.map(([row, title, name, envoy = 'answered']) =>
    sends(row, title, () => helloFor(name), 'alert 112', envoy),
  ),
]

/** SSL 2: length with the high bit set, CLIENT-HELLO, version, three lengths, suites, challenge. */
const ssl2 = Buffer.concat([bytes(0x80, 0x2e, 1, 0, 2, 0, 0x15, 0, 0, 0, 0x10), randomBytes(37)])

const protocols: readonly Attack[] = [
  sends(15, 'an SSL 2 hello', () => ssl2, 'alert 70', 'cut'),
  sends(
    15,
    'SSL 3',
    () => hello({ version: 0x0300, extensions: [sni(NAME), ...withoutVersions] }),
    'alert 70',
    'cut',
  ),
  sends(
    15,
    'TLS 1.0 only',
    () => hello({ version: 0x0301, extensions: [sni(NAME), ...withoutVersions] }),
    'alert 70',
    'alert 70',
  ),
  sends(
    15,
    'TLS 1.1 only',
    () => hello({ version: 0x0302, extensions: [sni(NAME), ...withoutVersions] }),
    'alert 70',
    'alert 70',
  ),
  sends(
    15,
    'TLS 1.1 in supported_versions',
    () => hello({ extensions: [sni(NAME), ...withoutVersions, supportedVersions(0x0302)] }),
    'alert 70',
    'alert 70',
  ),
  ...(
    [
      ['HTTP/1.1', 'GET / HTTP/1.1\r\nHost: productpage\r\n\r\n'],
      ['HTTP/2', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0'],
      ['PROXY v1', `PROXY TCP4 10.0.0.1 10.0.0.2 1 15443\r\n`],
      ['SSH', 'SSH-2.0-OpenSSH_9.6\r\n'],
      ['Redis', '*1\r\n$4\r\nPING\r\n'],
      ['SMTP', 'EHLO x\r\n'],
      ['zero bytes', '\0\0\0\0\0\0\0\0'],
    ] as const
  ).map(([title, text]) => sends(16, title, () => text, 'closed', 'cut')),
  sends(
    16,
    'PROXY v2 before a good hello',
    () =>
      Buffer.concat([
        bytes(0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a, 0x21, 0x11, 0, 12),
        randomBytes(12),
        helloFor(NAME),
      ]),
    'closed',
    'cut',
  ),
  sends(
    16,
    'PROXY v1 before a good hello',
    () => Buffer.concat([Buffer.from('PROXY TCP4 10.0.0.1 10.0.0.2 1 15443\r\n'), helloFor(NAME)]),
    'closed',
    'cut',
  ),
  sends(17, 'an alert first', () => record(21, bytes(2, 40)), 'alert 10', 'cut'),
  sends(17, 'application data first', () => record(23, randomBytes(40)), 'alert 10', 'cut'),
  sends(
    17,
    'a change_cipher_spec first',
    () => Buffer.concat([record(20, bytes(1)), helloFor(NAME)]),
    'alert 10',
    'cut',
  ),
  sends(17, 'a heartbeat first', () => record(24, bytes(1, 0x40, 0)), 'alert 10', 'cut'),
  sends(17, 'a ServerHello first', () => record(22, handshake(2, randomBytes(70))), 'alert 10', 'cut'),
  sends(
    17,
    'a change_cipher_spec inside the hello',
    () => [record(22, message().subarray(0, 50)), record(20, bytes(1))].map((part) => part),
    'alert 10',
    'cut',
  ),
]

const slow: readonly Attack[] = [
  sends(18, 'connects and says nothing', () => [], 'closed', 'cut', 'impatient'),
  sends(
    18,
    'half a hello and then nothing',
    () => helloFor(NAME).subarray(0, 100),
    'closed',
    'cut',
    'impatient',
  ),
  {
    row: 18,
    title: 'a whole hello and then nothing',
    run: async (context) => {
      const wire = context.wire('impatient')
      wire.socket.write(helloFor(NAME))
      await wire.ended()
      return 'cut'
    },
    ours: 'cut',
    envoy: 'cut',
  },
  {
    row: 18,
    title: 'half a hello and FIN',
    run: async (context) => {
      const wire = context.wire()
      wire.socket.end(helloFor(NAME).subarray(0, 100))
      await wire.ended()
      return wire.tcpEnd === 'rst' ? 'reset' : 'closed'
    },
    ours: 'closed',
    envoy: 'cut',
  },
]

export const HELLOS: readonly Attack[] = [...structure, ...names, ...protocols, ...slow]
