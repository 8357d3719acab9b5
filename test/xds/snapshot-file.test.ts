import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
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
import t from 'tap'
import type { Clock } from '../../src/lib/clock.ts'
import { rawResource } from '../../src/xds/resource.ts'
import { SnapshotFile, type SnapshotFileOptions } from '../../src/xds/snapshot-file.ts'
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
  for (let bit = 0; bit < whole.length * 8; bit++) {
    const damaged = Buffer.from(whole)
    damaged[bit >> 3] = (damaged[bit >> 3] ?? 0) ^ (1 << (bit & 7))
    writeFileSync(path, damaged)
    const { loaded, problems } = open(directory).load()
    const found = names(loaded?.snapshot)
    if (found[0] !== 'old' || problems.length !== 1)
      t.fail(`bit ${bit}: ${found} ${JSON.stringify(problems)}`)
  }
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

t.test('a date in the future bounds no age', async (t) => {
  const directory = folder(t)
  const clock = new ManualClock()
  open(directory, { clock }).save(snapshotOf('a'))
  clock.time -= 3_600_000
  t.same(names(open(directory, { clock }).load().loaded?.snapshot), ['a'], 'a clock that was set right')
  clock.time -= 24 * 3_600_000
  t.match(open(directory, { clock }).load(), { loaded: undefined, problems: [{ field: 'savedAtMs' }] })
})

const moduleOf = (path: string) => JSON.stringify(new URL(`../../src/${path}`, import.meta.url).href)
/** Saves of many sizes, without an end. */
const WRITER = (directory: string) => `
  const { SnapshotFile } = await import(${moduleOf('xds/snapshot-file.ts')})
  const { rawResource } = await import(${moduleOf('xds/resource.ts')})
  const file = new SnapshotFile({ directory: ${JSON.stringify(directory)}, owner: 'gateway/a' })
  const snapshot = (n) => new Map([[${JSON.stringify(TYPE.listener)}, new Map(Array.from({ length: n }, (_, i) =>
    ['l' + i, rawResource('l' + i, 'x', Buffer.alloc(1_000, i))]))]])
`

t.test('killed in the middle of a save, it leaves a whole file', async (t) => {
  const directory = folder(t)
  const program = `${WRITER(directory)}
    file.save(snapshot(1))
    console.log('saving')
    for (let n = 0; ; n++) file.save(snapshot(n % 400))`
  for (let round = 0; round < 6; round++) {
    const writer = spawn(process.execPath, ['--input-type=module', '-e', program], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    await once(writer.stdout, 'data')
    // Anywhere in a save; which part of it is the machine's to choose.
    await new Promise((resolve) => setTimeout(resolve, 7 * round))
    writer.kill('SIGKILL')
    await once(writer, 'exit')
    const { loaded, problems } = open(directory).load()
    t.ok(loaded, `round ${round}`)
    t.same(problems, [])
  }
})

t.test('a full disk leaves what was there, and no half file', async (t) => {
  const directory = folder(t)
  const program = `${WRITER(directory)}
    file.save(snapshot(10))
    let code = ''
    try { file.save(snapshot(1_000)) } catch (error) { code = error.code }
    const { readdirSync } = await import('node:fs')
    const { loaded, problems } = file.load()
    console.log(JSON.stringify({ code, held: [...loaded.snapshot.values()][0].size, problems, files: readdirSync(${JSON.stringify(directory)}) }))`
  const script = 'mount -t tmpfs -o size=100k tmpfs "$1" && exec "$2" --input-type=module -e "$3"'
  const args = ['-Urm', 'sh', '-c', script, 'sh', directory, process.execPath, program]
  const { status, stdout, stderr } = spawnSync('unshare', args, { encoding: 'utf8' })
  if (status !== 0 && process.env['CI'] === undefined) {
    t.pass(`skipped: no namespaces here: ${stderr}`, { skip: true })
    return
  }
  t.same(JSON.parse(stdout), { code: 'ENOSPC', held: 10, problems: [], files: ['snapshot'] }, stderr)
})
