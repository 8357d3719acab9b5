import { randomBytes } from 'node:crypto'
import { Writable } from 'node:stream'
import t from 'tap'
import { SlicedWriter } from '../../src/xds/sliced-writer.ts'

/** Takes one chunk whenever it is told to. */
class Slow extends Writable {
  readonly taken: Buffer[] = []
  #next: (() => void) | undefined

  override _write(chunk: Buffer, _encoding: string, next: () => void): void {
    this.taken.push(chunk)
    this.#next = next
  }

  take(): void {
    const next = this.#next
    this.#next = undefined
    next?.()
  }
}

const large = randomBytes(1_000_000)
const tail = Buffer.from('tail')

t.test(
  'over TLS a client that reads nothing holds a slice, and gets all of it in order once it reads',
  async (t) => {
    const stream = new Slow()
    const writer = new SlicedWriter(stream, true)
    t.equal(writer.write(large, tail), false)
    t.ok(stream.writableLength <= 256 * 1024, `${stream.writableLength} bytes wait`)
    t.equal(writer.unfinished, true)
    let done = false
    stream.on('drain', () => {
      done = writer.resume()
    })
    for (let turn = 0; turn < 1_000 && !done; turn++) {
      stream.take()
      await new Promise(setImmediate)
    }
    t.ok(done)
    t.equal(writer.unfinished, false)
    for (let turn = 0; turn < 3; turn++) {
      stream.take()
      await new Promise(setImmediate)
    }
    t.ok(Buffer.concat(stream.taken).equals(Buffer.concat([large, tail])))
  },
)

t.test('what has begun is finished before the stream is ended', async (t) => {
  const stream = new Slow()
  const writer = new SlicedWriter(stream, true)
  writer.write(large, tail)
  writer.finish()
  t.equal(writer.unfinished, false)
  t.equal(stream.writableLength, large.length + tail.length)
})

t.test('in clear, where nothing is copied, a message is written at once', async (t) => {
  const stream = new Slow()
  new SlicedWriter(stream, false).write(large, tail)
  t.equal(stream.writableLength, large.length + tail.length)
})
