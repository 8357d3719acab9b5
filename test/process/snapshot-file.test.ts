import {
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import t from 'tap'
import type { Clock } from '../../src/lib/clock.ts'
import { SnapshotFile, type SnapshotFileOptions } from '../../src/proxy/process/snapshot-file.ts'
import { rawResource } from '../../src/xds/resource.ts'
import { type Snapshot, TYPE } from '../../src/xds/types.ts'

interface Scope {
  teardown(end: () => unknown): void
}

class ManualClock implements Clock {
  time = 1_700_000_000_000
  now(): number {
    return this.time
  }
  after(): () => void {
    return () => {}
  }
}

function folder(scope: Scope): string {
  const directory = mkdtempSync(join(tmpdir(), 'isthmus-snapshot-'))
  scope.teardown(() => rmSync(directory, { recursive: true }))
  return directory
}

const snapshotOf = (...names: string[]): Snapshot =>
  new Map([
    [
      TYPE.listener,
      new Map(names.map((n) => [n, rawResource(n, TYPE.listener, Buffer.from([0, 255, n.length]))])),
    ],
    [TYPE.cluster, new Map()],
  ])
const names = (snapshot: Snapshot | undefined) => [...(snapshot?.get(TYPE.listener)?.keys() ?? [])]

function open(directory: string, more: Partial<SnapshotFileOptions> = {}): SnapshotFile {
  return new SnapshotFile({ directory, owner: 'gateway/a', ...more })
}

t.test(
  'what was saved is loaded, by its owner alone, with mode 0600 and no temporary file left',
  async (t) => {
    const directory = folder(t)
    t.same(open(directory).load(), { loaded: undefined, problems: [] })
    const clock = new ManualClock()
    open(directory, { clock }).save(snapshotOf('a', 'b'))
    const { loaded, problems } = open(directory, { clock }).load()
    t.same(problems, [])
    t.equal(loaded?.savedAtMs, clock.time)
    t.same(loaded?.snapshot, snapshotOf('a', 'b'))
    t.same(readdirSync(directory), ['snapshot'])
    t.equal(statSync(join(directory, 'snapshot')).mode & 0o777, 0o600)
    const other = open(directory, { owner: 'gateway/b', clock }).load()
    t.equal(other.loaded, undefined)
    t.match(other.problems, [{ field: 'owner', message: /gateway\/a, expected gateway\/b/ }])
  },
)

t.test('a damaged file gives way to the one before, whatever the damage', async (t) => {
  const directory = folder(t)
  const file = open(directory)
  file.save(snapshotOf('old'))
  file.save(snapshotOf('new'))
  const path = join(directory, 'snapshot')
  const whole = readFileSync(path)
  fc.assert(
    fc.property(fc.nat(whole.length - 1), fc.integer({ min: 1, max: 255 }), (at, flip) => {
      const damaged = Buffer.from(whole)
      damaged[at] = (damaged[at] ?? 0) ^ flip
      writeFileSync(path, damaged)
      const { loaded, problems } = open(directory).load()
      // A flipped bit of the date alone leaves the content whole; anything else is noticed.
      const found = names(loaded?.snapshot)
      return (found[0] === 'old' && problems.length === 1) || found[0] === 'new'
    }),
    { seed: 3, numRuns: 200 },
  )
  for (const length of [0, 1, whole.indexOf('\n'), whole.indexOf('\n') + 1, whole.length - 1]) {
    writeFileSync(path, whole)
    truncateSync(path, length)
    const { loaded, problems } = open(directory).load()
    t.same(names(loaded?.snapshot), ['old'], `cut to ${length}`)
    t.equal(problems.length, 1)
  }
  writeFileSync(join(directory, 'snapshot.previous'), 'nonsense')
  const { loaded, problems } = open(directory).load()
  t.equal(loaded, undefined)
  t.equal(problems.length, 2)
})

t.test(
  'a snapshot that nobody confirmed for a day is not taken; saving the same again confirms it',
  async (t) => {
    const directory = folder(t)
    const clock = new ManualClock()
    const file = open(directory, { clock })
    file.save(snapshotOf('older'))
    file.save(snapshotOf('a'))
    clock.time += 23 * 3_600_000
    file.save(snapshotOf('a'))
    clock.time += 2 * 3_600_000
    t.same(names(open(directory, { clock }).load().loaded?.snapshot), ['a'])
    clock.time += 24 * 3_600_000
    const late = open(directory, { clock }).load()
    t.equal(late.loaded, undefined)
    t.match(late.problems, [{ field: 'savedAtMs' }, { field: 'savedAtMs' }])
    writeFileSync(join(directory, 'snapshot'), '')
    clock.time -= 26 * 3_600_000
    t.same(
      names(open(directory, { clock }).load().loaded?.snapshot),
      ['older'],
      'confirming did not push out the one before',
    )
  },
)

t.test('a save that fails leaves what was there', async (t) => {
  const directory = folder(t)
  open(directory).save(snapshotOf('a'))
  const gone = open(join(directory, 'missing'))
  t.throws(() => gone.save(snapshotOf('b')), { code: 'ENOENT' })
  t.same(names(open(directory).load().loaded?.snapshot), ['a'])
})
