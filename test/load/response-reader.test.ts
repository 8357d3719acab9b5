import assert from 'node:assert/strict'
import fc from 'fast-check'
import t from 'tap'
import { ResponseReader } from '../../src/load/response-reader.ts'

interface Written {
  readonly text: string
  readonly status: number
  readonly body: number
}

const filler = fc.constantFrom('', 'Date: Tue, 24 Nov 2026 12:00:00 GMT\r\n', 'X-A: b\r\nx-c:d\r\n')
const status = fc.constantFrom(200, 201, 404, 503)

const withLength: fc.Arbitrary<Written> = fc
  .tuple(status, filler, fc.nat(300), fc.constantFrom('Content-Length: ', 'content-length:'))
  .map(([status, more, body, name]) => ({
    text: `HTTP/1.1 ${status} Whatever\r\n${more}${name}${body}\r\n\r\n${'x'.repeat(body)}`,
    status,
    body,
  }))

const chunked: fc.Arbitrary<Written> = fc
  .tuple(status, fc.array(fc.integer({ min: 1, max: 40 })), fc.constantFrom('', ';a=b'), filler)
  .map(([status, sizes, extension, trailer]) => ({
    text: `HTTP/1.1 ${status} \r\nTransfer-Encoding: Chunked\r\n\r\n${sizes
      .map((size) => `${size.toString(16)}${extension}\r\n${'\n'.repeat(size)}\r\n`)
      .join('')}0\r\n${trailer}\r\n`,
    status,
    body: sizes.reduce((sum, size) => sum + size, 0),
  }))

const bodiless: fc.Arbitrary<Written> = fc.constantFrom(204, 304).map((status) => ({
  text: `HTTP/1.1 ${status} None\r\nContent-Length: 5\r\n\r\n`,
  status,
  body: 0,
}))

const interim = fc.constantFrom(
  '',
  'HTTP/1.1 100 Continue\r\n\r\n',
  'HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n',
)
const response = fc
  .tuple(interim, fc.oneof(withLength, chunked, bodiless))
  .map(([before, written]) => ({ ...written, text: before + written.text }))

/** Cut into pieces of these lengths, again and again. */
function pieces(text: string, lengths: readonly number[]): Buffer[] {
  const bytes = Buffer.from(text, 'latin1')
  const found: Buffer[] = []
  for (let at = 0, i = 0; at < bytes.length; i++) {
    const end = at + (lengths[i % lengths.length] ?? 1)
    found.push(bytes.subarray(at, end))
    at = end
  }
  return found
}

t.test(
  'any responses in any pieces: each is whole at its last byte, and every byte of a body is counted',
  async () => {
    const lengths = fc.array(fc.integer({ min: 1, max: 90 }), { minLength: 1, maxLength: 6 })
    fc.assert(
      fc.property(fc.array(response, { minLength: 1, maxLength: 5 }), lengths, (responses, cuts) => {
        const reader = new ResponseReader()
        // What is received lies in one buffer that the next read overwrites.
        const shared = Buffer.alloc(100)
        let bodies = 0
        for (const { text, status, body } of responses) {
          reader.reset()
          const all = pieces(text, cuts)
          for (const [index, piece] of all.entries()) {
            piece.copy(shared)
            const whole = reader.read(shared.subarray(0, piece.length))
            shared.fill('!')
            assert.equal(reader.problem, '')
            assert.equal(whole, index === all.length - 1)
          }
          bodies += body
          assert.deepEqual([reader.status, reader.bodyBytes], [status, bodies])
        }
      }),
      { numRuns: 150 },
    )
  },
)

t.test('a response that the end of the connection ends', async (t) => {
  const reader = new ResponseReader()
  t.equal(reader.read(Buffer.from('HTTP/1.1 200 OK\r\n\r\nabc')), false)
  t.equal(reader.read(Buffer.from('def')), false)
  t.same([reader.end(), reader.bodyBytes, reader.closing], [true, 6, true])
  const half = new ResponseReader()
  half.read(Buffer.from('HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc'))
  t.equal(half.end(), false)
})

t.test('what the server says of the connection', async (t) => {
  const closing = (head: string): boolean => {
    const reader = new ResponseReader()
    reader.read(Buffer.from(`${head}Content-Length: 0\r\n\r\n`))
    return reader.closing
  }
  t.equal(closing('HTTP/1.1 200 OK\r\n'), false)
  t.equal(closing('HTTP/1.1 200 OK\r\nConnection: Close\r\n'), true)
  t.equal(closing('HTTP/1.0 200 OK\r\n'), true)
  t.equal(closing('HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n'), false)
})

t.test('what is no response is a problem that says what came', async (t) => {
  const problemOf = (text: string): string => {
    const reader = new ResponseReader()
    t.equal(reader.read(Buffer.from(text, 'latin1')), false)
    return reader.problem
  }
  t.match(problemOf('SSH-2.0-OpenSSH_9.9\r\n\r\n'), /not an HTTP\/1\.1 response: "SSH-2\.0/)
  t.match(problemOf('HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n'), /two lengths/)
  t.match(problemOf('HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n'), /Content-Length: -1/)
  t.match(problemOf('HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n'), /Transfer-Encoding: gzip/)
  t.match(
    problemOf('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n'),
    /no size of a chunk: "zz"/,
  )
  t.match(
    problemOf('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n'),
    /longer than it says/,
  )
  t.match(problemOf('HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nmore'), /after the end/)
  t.match(problemOf('HTTP/1.1 101 Switching\r\n\r\n'), /another protocol/)
  t.match(problemOf(`HTTP/1.1 200 OK\r\n${'a'.repeat(70_000)}`), /a head of over/)
})
