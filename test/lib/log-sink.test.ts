import { execFileSync } from 'node:child_process'
import { closeSync, constants, mkdtempSync, openSync, readSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { ATOMIC_BYTES, LogSink } from '../../src/lib/log-sink.ts'

interface Scope {
  teardown(end: () => unknown): void
}

/** A pipe whose reader is this test: `read` takes what is there, up to `bytes`. */
function pipe(scope: Scope) {
  const folder = mkdtempSync(join(tmpdir(), 'isthmus-log-'))
  scope.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const path = join(folder, 'pipe')
  execFileSync('mkfifo', [path])
  const reader = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK)
  const writer = openSync(path, constants.O_WRONLY | constants.O_NONBLOCK)
  let open = true
  scope.teardown(() => closeSync(writer))
  const close = () => {
    if (open) closeSync(reader)
    open = false
  }
  scope.teardown(close)
  const read = (bytes = 1 << 20): string => {
    const buffer = Buffer.alloc(bytes)
    try {
      return buffer.toString('utf8', 0, readSync(reader, buffer))
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EAGAIN') return ''
      throw error
    }
  }
  return { writer, read, close }
}

const turn = () => new Promise((resolve) => setImmediate(resolve))

t.test('a line of the program is there at once, one of many within a turn, in order', async (t) => {
  const { writer, read } = pipe(t)
  const sink = new LogSink({ fd: writer })
  sink.writeSoon('first\n')
  t.equal(read(), '')
  sink.write('second\n')
  t.equal(read(), 'first\nsecond\n')
  sink.writeSoon('third\n')
  await turn()
  t.equal(read(), 'third\n')
})

t.test(
  'a reader that stands still blocks nobody; what does not fit is dropped, counted, and said',
  async (t) => {
    const { writer, read } = pipe(t)
    const capacityBytes = 64 * 1_024
    const describeLoss = (lines: number) => `lost ${lines}\n`
    const sink = new LogSink({ fd: writer, capacityBytes, describeLoss })
    const line = (n: number) => `${String(n).padStart(7, '0')}${'x'.repeat(200)}\n`
    const total = 2_000
    for (let n = 0; n < total; n += 1) sink.writeSoon(line(n))
    t.ok(sink.dropped > 0, 'more than pipe and buffer hold')
    const dropped = sink.dropped
    sink.write('of the program\n')
    t.equal(sink.dropped, dropped, 'the access log is the first to lose')
    let text = ''
    while (!text.includes('lost')) {
      text += read(10_000)
      await turn()
    }
    const lines = text.trimEnd().split('\n')
    t.equal(lines.at(-1), `lost ${dropped}`)
    t.equal(lines.at(-2), 'of the program')
    const kept = lines.slice(0, -2)
    t.same(
      kept,
      Array.from({ length: total - dropped }, (_, n) => line(n).trimEnd()),
      'whole, in order',
    )
  },
)

t.test('lines go out in whole pieces that a pipe does not cut', async (t) => {
  const { writer, read } = pipe(t)
  const sink = new LogSink({ fd: writer })
  for (let n = 0; n < 40; n += 1) sink.writeSoon(`${'x'.repeat(998)}\n`)
  // The pipe fills up, so that the last piece fits only in part: a cut line would show.
  for (let n = 0; n < 60; n += 1) sink.writeSoon(`${'y'.repeat(998)}\n`)
  await turn()
  const seen = read()
  t.ok(seen.length > ATOMIC_BYTES && seen.length < 100_000, `${seen.length} bytes`)
  t.ok(seen.endsWith('\n'), 'the pipe holds whole lines only')
  const long = `${'z'.repeat(3 * ATOMIC_BYTES)}\n`
  sink.write(long)
  let rest = ''
  while (!rest.endsWith(long)) {
    rest += read()
    await turn()
  }
  t.equal((seen + rest).length, 100 * 999 + long.length)
})

t.test('a reader that is gone is no error', async (t) => {
  const { writer, close } = pipe(t)
  const sink = new LogSink({ fd: writer })
  close()
  sink.write('nobody reads this\n')
  sink.writeSoon('nor this\n')
  await turn()
  t.equal(sink.dropped, 2)
})
