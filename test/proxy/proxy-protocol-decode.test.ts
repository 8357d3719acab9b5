import { isIP } from 'node:net'
import fc from 'fast-check'
import t from 'tap'
import { crc32c, decodeProxyHeader, type ProxyHeader } from '../../src/proxy/proxy-protocol-decode.ts'

const SIGNATURE = Buffer.from('0d0a0d0a000d0a515549540a', 'hex')

interface V2 {
  readonly command?: number
  readonly family?: number
  readonly block?: Buffer
  readonly tlvs?: readonly (readonly [type: number, value: Buffer])[]
}

const IPV4 = Buffer.from([192, 0, 2, 1, 198, 51, 100, 7, 0x30, 0x39, 0x3c, 0x53])

function v2({ command = 0x21, family = 0x11, block = IPV4, tlvs = [] }: V2 = {}): Buffer {
  const rest = Buffer.concat([
    block,
    ...tlvs.map(([type, value]) =>
      Buffer.concat([Buffer.from([type, value.length >> 8, value.length & 255]), value]),
    ),
  ])
  const head = Buffer.from([command, family, rest.length >> 8, rest.length & 255])
  return Buffer.concat([SIGNATURE, head, rest])
}

function header(bytes: Buffer): ProxyHeader {
  const result = decodeProxyHeader(bytes)
  if (result.kind !== 'header') throw new Error(JSON.stringify(result))
  return result.header
}

const line = (text: string): Buffer => Buffer.from(text, 'latin1')
const reasonOf = (bytes: Buffer): string => {
  const result = decodeProxyHeader(bytes)
  return result.kind === 'error' ? result.reason : result.kind
}

t.test('version 1', async (t) => {
  t.match(header(line('PROXY TCP4 192.0.2.1 198.51.100.7 12345 15443\r\nrest')), {
    version: 1,
    length: 47,
    addresses: { source: { ip: '192.0.2.1', port: 12345 }, destination: { ip: '198.51.100.7', port: 15443 } },
  })
  t.match(header(line('PROXY TCP6 2001:db8::1 ::1 0 65535\r\n')).addresses?.source, {
    ip: '2001:db8::1',
    port: 0,
  })
  t.equal(header(line('PROXY UNKNOWN\r\n')).addresses, undefined)
  t.equal(header(line('PROXY UNKNOWN whatever it says\r\n')).addresses, undefined)
  t.equal(reasonOf(line(`PROXY UNKNOWN ${'x'.repeat(91)}\r\n`)), 'header' as never, '107 bytes')
  const wrong: [string, RegExp][] = [
    [`PROXY UNKNOWN ${'x'.repeat(92)}\r\n`, /no end of line/],
    ['PROXY TCP4 192.0.2.1 198.51.100.7 12345\r\n', /3 words/],
    ['PROXY TCP4  192.0.2.1 198.51.100.7 1 2\r\n', /5 words/],
    ['PROXY TCP4 192.0.2.1 198.51.100.7 1 2 \r\n', /5 words/],
    ['PROXY TCP4 192.0.2.01 198.51.100.7 1 2\r\n', /no TCP4 address/],
    ['PROXY TCP4 ::1 ::1 1 2\r\n', /no TCP4 address/],
    ['PROXY TCP6 192.0.2.1 ::1 1 2\r\n', /no TCP6 address/],
    ['PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n', /no TCP6 address/],
    ['PROXY TCP4 192.0.2.1 198.51.100.7 01 2\r\n', /"01" is no port/],
    ['PROXY TCP4 192.0.2.1 198.51.100.7 65536 2\r\n', /no port/],
    ['PROXY TCP4 192.0.2.1 198.51.100.7 -1 2\r\n', /no port/],
    ['PROXY UDP4 192.0.2.1 198.51.100.7 1 2\r\n', /protocol "UDP4"/],
    ['PROXY tcp4 192.0.2.1 198.51.100.7 1 2\r\n', /protocol "tcp4"/],
    ['proxy TCP4 192.0.2.1 198.51.100.7 1 2\r\n', /no PROXY protocol header/],
    ['GET / HTTP/1.1\r\n', /no PROXY protocol header/],
  ]
  for (const [text, reason] of wrong) t.match(reasonOf(line(text)), reason, text.trim())
})

t.test('version 2', async (t) => {
  const addresses = {
    source: { ip: '192.0.2.1', port: 12345 },
    destination: { ip: '198.51.100.7', port: 15443 },
  }
  t.strictSame(header(v2()), { version: 2, length: 28, addresses, tlvs: [] })
  const six = Buffer.concat([
    Buffer.from('20010db8000000000000000000000001', 'hex'),
    Buffer.alloc(16),
    Buffer.from([0, 1, 0, 2]),
  ])
  t.match(header(v2({ family: 0x21, block: six })).addresses, {
    source: { ip: '2001:db8:0:0:0:0:0:1', port: 1 },
    destination: { ip: '0:0:0:0:0:0:0:0', port: 2 },
  })
  t.equal(header(v2({ command: 0x20 })).addresses, undefined, 'LOCAL')
  t.equal(
    header(v2({ command: 0x20, family: 0x31, block: Buffer.alloc(0) })).length,
    16,
    'LOCAL without addresses',
  )
  t.equal(header(v2({ family: 0x00, block: Buffer.alloc(3) })).addresses, undefined, 'UNSPEC')
  const tlv = header(
    v2({
      tlvs: [
        [0x02, Buffer.from('x.example')],
        [0x04, Buffer.alloc(0)],
      ],
    }),
  ).tlvs
  t.strictSame(
    tlv.map(({ type, value }) => [type, value.toString()]),
    [
      [2, 'x.example'],
      [4, ''],
    ],
  )
  const wrong: [Buffer, RegExp][] = [
    [v2({ command: 0x11 }), /0x11/],
    [v2({ command: 0x22 }), /0x22/],
    [v2({ family: 0x12 }), /0x12, expected TCP/],
    [v2({ family: 0x31, block: Buffer.alloc(216) }), /0x31, expected TCP/],
    [v2({ block: IPV4.subarray(0, 11) }), /too few/],
    [v2({ family: 0x21 }), /too few/],
    [v2({ block: Buffer.concat([IPV4, Buffer.from([1, 0])]) }), /without its length/],
    [v2({ block: Buffer.concat([IPV4, Buffer.from([1, 0, 5, 0])]) }), /beyond the header/],
    [v2({ tlvs: [[1, Buffer.alloc(4_400)]] }), /at most 4312/],
  ]
  for (const [bytes, reason] of wrong) t.match(reasonOf(bytes), reason)
})

t.test('a checksum that is there must be right', async (t) => {
  t.equal(crc32c(Buffer.from('123456789')), 0xe3069283, 'the check value of CRC-32C')
  const bytes = v2({
    tlvs: [
      [0x01, Buffer.from('h2')],
      [0x03, Buffer.alloc(4)],
    ],
  })
  const sum = crc32c(bytes)
  const at = bytes.length - 4
  t.match(reasonOf(bytes), /checksum/)
  bytes.writeUInt32BE(sum, at)
  t.equal(header(bytes).tlvs.length, 2)
  bytes[20] = (bytes[20] ?? 0) ^ 1
  t.match(reasonOf(bytes), /checksum/)
  t.match(reasonOf(v2({ tlvs: [[0x03, Buffer.alloc(3)]] })), /checksum/)
})

t.test('every prefix of a header is incomplete, and what follows it changes nothing', async (t) => {
  for (const whole of [
    line('PROXY TCP6 2001:db8::1 ::1 12345 65535\r\n'),
    line('PROXY UNKNOWN\r\n'),
    v2({
      tlvs: [
        [0x02, Buffer.from('x.example')],
        [0xe0, Buffer.alloc(300)],
      ],
    }),
    v2({ command: 0x20, block: Buffer.alloc(0) }),
  ]) {
    for (let length = 0; length < whole.length; length += 1)
      if (decodeProxyHeader(whole.subarray(0, length)).kind !== 'incomplete')
        t.fail(`${length} of ${whole.length} bytes`)
    const { length, ...rest } = header(whole)
    t.equal(length, whole.length)
    t.match(header(Buffer.concat([whole, Buffer.from('PROXY x\r\n\r\n')])), { length, ...rest })
  }
})

t.test('any bytes: an answer, never a throw, and never a wait for more than the limits', async (t) => {
  const seeds = [v2(), v2({ tlvs: [[1, Buffer.alloc(20)]] }), line('PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n')]
  const bytes = fc.oneof(
    fc.uint8Array({ maxLength: 200 }).map((some) => Buffer.from(some)),
    // A real header with a few bytes changed, and a tail.
    fc
      .tuple(
        fc.constantFrom(...seeds),
        fc.array(fc.tuple(fc.nat(60), fc.nat(255)), { maxLength: 3 }),
        fc.uint8Array({ maxLength: 30 }),
      )
      .map(([seed, changes, tail]) => {
        const copy = Buffer.from(seed)
        for (const [at, value] of changes) if (at < copy.length) copy[at] = value
        return Buffer.concat([copy, tail])
      }),
  )
  const seen = { header: 0, error: 0, incomplete: 0 }
  fc.assert(
    fc.property(bytes, (input) => {
      const result = decodeProxyHeader(input)
      seen[result.kind] += 1
      if (result.kind === 'incomplete') return input.length < 16 + 4_312
      if (result.kind === 'error') return result.reason.length > 0
      const { length, addresses } = result.header
      // What came before the last byte was not enough, and nothing behind it was looked at.
      return (
        length <= input.length &&
        decodeProxyHeader(input.subarray(0, length - 1)).kind === 'incomplete' &&
        (addresses === undefined || (isIP(addresses.source.ip) !== 0 && isIP(addresses.destination.ip) !== 0))
      )
    }),
    { seed: 21, numRuns: 5_000 },
  )
  t.ok(seen.header > 100 && seen.error > 100 && seen.incomplete > 20, JSON.stringify(seen))
})
