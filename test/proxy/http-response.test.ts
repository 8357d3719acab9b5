// What answers a health check may be anything.
import fc from 'fast-check'
import t from 'tap'
import { HttpResponseReader } from '../../src/proxy/health/http-response.ts'

interface Read {
  readonly status: number
  readonly body: string
  readonly whole: boolean
  readonly keepAlive: boolean
  readonly problem: string | undefined
}

/** In segments that end at these places. */
function read(bytes: Buffer, cuts: readonly number[] = [], limit = 1_024, noBody = false): Read {
  const reader = new HttpResponseReader(noBody, limit)
  let problem: string | undefined
  const ends = [...new Set(cuts.map((cut) => cut % (bytes.length + 1)))].sort((a, b) => a - b)
  let from = 0
  for (const end of [...ends, bytes.length]) {
    if (end > from && problem === undefined && !reader.whole) problem = reader.push(bytes.subarray(from, end))
    from = end
  }
  const { status, body, whole, keepAlive } = reader
  return { status, body: body.toString('latin1'), whole, keepAlive, problem }
}

const text = (lines: string) => Buffer.from(lines.replaceAll('\n', '\r\n'), 'latin1')

t.test('each way in which a response can end', async (t) => {
  for (const [response, expected] of [
    ['HTTP/1.1 200 OK\ncontent-length: 3\n\nabc', { status: 200, body: 'abc', whole: true, keepAlive: true }],
    ['HTTP/1.1 200 OK\ncontent-length: 5\n\nabc', { body: 'abc', whole: false }],
    ['HTTP/1.0 200\ncontent-length: 0\n\n', { whole: true, keepAlive: false }],
    ['HTTP/1.1 204 No\nconnection: close\n\n', { status: 204, whole: true, keepAlive: false }],
    ['HTTP/1.1 100 Continue\n\nHTTP/1.1 503 x\ncontent-length: 0\n\n', { status: 503, whole: true }],
    [
      'HTTP/1.1 200 OK\ntransfer-encoding: chunked\n\n3\nabc\n2;x=y\nde\n0\nt: 1\n\n',
      { body: 'abcde', whole: true },
    ],
    ['HTTP/1.1 200 OK\n\nabc', { body: 'abc', whole: false, keepAlive: false }],
    ['HTTP/2 200\n\n', { problem: /no HTTP\/1\.1/ }],
    ['SSH-2.0\n\n', { problem: /no HTTP\/1\.1/ }],
    ['HTTP/1.1 200 OK\ncontent-length: -1\n\n', { problem: /content-length/ }],
    ['HTTP/1.1 200 OK\ntransfer-encoding: chunked\n\nzz\n', { problem: /chunk/ }],
    [`HTTP/1.1 200 OK\nx: ${'x'.repeat(20_000)}\n\n`, { problem: /longer than/ }],
  ] as const)
    t.match(read(text(response)), expected, JSON.stringify(response.slice(0, 60)))
  t.equal(read(text('HTTP/1.1 200 OK\ncontent-length: 9\n\n'), [], 0, true).whole, true, 'the answer to HEAD')
})

t.test('garbage never throws, and segments change nothing', async (t) => {
  const piece = fc.constantFrom(
    ...[
      'HTTP/1.1 200 OK',
      'HTTP/1.1 100',
      '\r\n',
      '\r\n\r\n',
      'content-length: 4',
      'transfer-encoding: chunked',
    ],
    ...['4\r\nabcd\r\n', '0\r\n\r\n', 'abcd', 'ffffffff', ':', '\0', 'connection: close'],
  )
  const input = fc.oneof(
    fc.array(piece, { maxLength: 12 }).map((pieces) => Buffer.from(pieces.join(''), 'latin1')),
    fc.uint8Array({ maxLength: 60 }).map((bytes) => Buffer.from(bytes)),
  )
  fc.assert(
    fc.property(input, fc.array(fc.nat(200), { maxLength: 8 }), fc.boolean(), (bytes, cuts, noBody) => {
      const [once, cut] = [read(bytes, [], 1_024, noBody), read(bytes, cuts, 1_024, noBody)]
      const same = once.status === cut.status && once.whole === cut.whole && once.body === cut.body
      return same && (once.problem === undefined) === (cut.problem === undefined)
    }),
    { seed: 4, numRuns: 5_000 },
  )
  t.pass()
})
