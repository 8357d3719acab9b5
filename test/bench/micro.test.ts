// The micro benches, small, in a process of their own: what each step allocates, counts, and costs beside another. Never a time.
import { execFile } from 'node:child_process'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import t from 'tap'
import { MEASURE_FLAGS } from '../../bench/micro/measure.ts'
import type { MicroFigures } from '../../bench/micro/run.ts'

const script = join(dirname(fileURLToPath(import.meta.url)), '..', '..', 'bench', 'micro', 'run.ts')
const { stdout } = await promisify(execFile)(process.execPath, [
  ...MEASURE_FLAGS,
  ...[script, '--small', '--json', '-'],
])
const figures = JSON.parse(stdout) as MicroFigures[]

function figuresOf(start: string): MicroFigures {
  const found = figures.filter(({ name }) => name.startsWith(start))
  if (found[0] === undefined || found.length > 1) throw new Error(`${found.length} benches: ${start}`)
  return found[0]
}

t.test('every micro bench has its figures', async (t) => {
  t.equal(figures.length, 13)
  t.equal(new Set(figures.map(({ name }) => name)).size, figures.length)
  for (const { name, opsPerSecond, marginPercent, bytesPerOp, beside, ratio = 0 } of figures) {
    t.ok(opsPerSecond > 0 && marginPercent >= 0 && bytesPerOp >= 0, name)
    t.ok(beside === undefined || ratio > 0, name)
  }
})

t.test(
  'a server name is found among ten thousand without an allocation, as fast as the only one',
  async (t) => {
    const lookups = figures.filter(({ name }) => name.startsWith('SNI lookup'))
    t.equal(lookups.length, 4)
    for (const { name, bytesPerOp, ratio = 1 } of lookups) {
      t.equal(bytesPerOp, 0, name)
      // A Map of ten thousand does not stay in the first cache; to look at them one by one would be a thousand times the price.
      t.ok(ratio < 8, `${name}: ${ratio}`)
    }
  },
)

t.test('a ClientHello is read where it lies', async (t) => {
  const whole = figuresOf('ClientHello, whole')
  t.ok(whole.bytesPerOp < 2_500, `${whole.bytesPerOp} bytes: views and names, no copy`)
  const pieces = figuresOf('ClientHello in 16 records')
  // What came first is read again with each segment, and copied at each doubling.
  t.ok(pieces.bytesPerOp < 30_000, `${pieces.bytesPerOp} bytes in pieces`)
  t.ok((pieces.ratio ?? 0) < 60, `${pieces.ratio} times the price in pieces`)
  const broken = figuresOf('ClientHello with a broken name')
  t.ok(
    (broken.ratio ?? 0) < 4,
    `${broken.ratio} times the price to refuse: an exception with a stack costs more`,
  )
})

t.test('a verdict on an SVID is remembered', async (t) => {
  const first = figuresOf('SVID verdict, first time')
  t.ok((first.ratio ?? 0) > 20, `the first costs ${first.ratio} times as much`)
  const again = figuresOf('SVID verdict, remembered')
  t.ok(again.bytesPerOp < 1_500, `${again.bytesPerOp} bytes: the key, and no certificate`)
})

t.test('what encoding costs grows with what is encoded, no faster', async (t) => {
  const { ratio = 0, bytesPerOp } = figuresOf('encode an assignment of 100')
  t.ok(ratio < 20, `ten times the endpoints cost ${ratio} times as much`)
  t.ok(bytesPerOp < 15 * figuresOf('encode an assignment of 10 ').bytesPerOp)
})

t.test('one service that changed is one resource that is encoded and told', async (t) => {
  const updates = figures.filter(({ name }) => name.startsWith('view update'))
  t.equal(updates.length, 2)
  for (const { name, counted = {}, ratio = 1 } of updates) {
    t.ok((counted['updates'] ?? 0) > 10)
    t.equal(counted['encoded'], counted['updates'], name)
    t.equal(counted['told'], counted['updates'], name)
    t.ok(
      (counted['derived'] ?? 0) <= 4 * (counted['updates'] ?? 0),
      'its host, routes and resources, no other',
    )
    // All services are still looked at, which is cheap beside deriving one.
    t.ok(ratio < 12, `ten times the services cost ${ratio} times as much`)
  }
})
