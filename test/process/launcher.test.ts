import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import t from 'tap'
import { LoggedProcess, type Scope } from './logged-process.ts'

// The launcher runs as a process of its own here (it takes over signals); its children are one-line scripts.

type Line = Record<string, unknown> & { msg: string; child?: string; pid?: number; generation?: number }

const launcherUrl = new URL('../../src/proxy/process/launcher.ts', import.meta.url).href
const LIFELINE = "new (require('node:net').Socket)({fd: 3}).on('close', () => process.exit(0)).resume();"
const UP = "console.log(JSON.stringify({msg: 'up'}))"
const DRAINS = `${LIFELINE}
  process.on('SIGINT', () => {}).on('SIGTERM', () => { console.log(JSON.stringify({msg: 'asked', who: process.env.WHO})); process.exit(0) })
  ${UP}`
const STUBBORN = `${LIFELINE} process.on('SIGTERM', () => {}); ${UP}`
const named = (who: string, script: string) => `process.env.WHO = '${who}'; ${script}`

/** Tells the launcher, and says on standard output, that it serves. */
const SERVES = `console.log(JSON.stringify({msg: 'serves', who: process.env.WHO, slot: process.env.ISTHMUS_SLOT, pid: process.pid}));
  require('node:fs').writeSync(3, '{"notice":"serving"}\\n');`
/** Leaves for its successor. */
const LEAVES = `process.on('SIGUSR2', () => {
  console.log(JSON.stringify({msg: 'left', pid: process.pid})); process.exit(0) });`

interface Options {
  readonly drainMs?: number
  readonly graceMs?: number
  readonly readyMs?: number
  readonly workers?: number
  readonly listen?: readonly { host: string; port: number }[]
}

class Run extends LoggedProcess<Line> {
  constructor(scope: Scope, scripts: { supervisor: string; worker: string }, options: Options = {}) {
    const program = `
      const { launch } = await import(${JSON.stringify(launcherUrl)})
      const scripts = ${JSON.stringify(scripts)}
      const options = ${JSON.stringify({ drainMs: 5_000, graceMs: 2_000, ...options })}
      const program = (child) => ({ file: process.execPath, argv: ['-e', scripts[child]] })
      process.exit(await launch({ ...options, program }))`
    const argv = ['--input-type=module', '-e', program]
    super(scope, spawn(process.execPath, argv, { stdio: ['ignore', 'pipe', 'inherit'] }))
  }

  started(child: string, generation = 1): Promise<Line> {
    return this.line((l) => l.msg === 'started' && l.child === child && l.generation === generation)
  }

  async up(): Promise<void> {
    await this.line((l) => l.msg === 'up', 2)
  }
}

const both = { supervisor: named('supervisor', DRAINS), worker: named('worker', DRAINS) }

t.test('a child that is killed is replaced; its sibling stays', async (t) => {
  const run = new Run(t, both)
  await run.up()
  const worker = await run.started('worker')
  process.kill(worker.pid as number, 'SIGKILL')
  t.not((await run.started('worker', 2)).pid, worker.pid)
  t.match(await run.line((l) => l.msg.startsWith('died')), { child: 'worker', signal: 'SIGKILL' })
  const supervisor = await run.started('supervisor')
  process.kill(supervisor.pid as number, 'SIGKILL')
  t.not((await run.started('supervisor', 2)).pid, supervisor.pid)
  t.equal(run.lines.filter((l) => l.msg === 'started').length, 4)
})

t.test('a child that keeps dying is started with growing delay', async (t) => {
  const run = new Run(t, { ...both, worker: 'process.exit(3)' })
  await run.started('worker', 4)
  const delays = run.lines.filter((l) => l.msg.startsWith('died')).map((l) => Number(l['delayMs']))
  t.ok((delays[0] ?? 999) <= 100 && (delays[2] ?? 0) >= 200, `delays ${delays}`)
})

t.test('SIGTERM: the worker is asked first, the supervisor last, exit 0', async (t) => {
  const run = new Run(t, both)
  await run.up()
  run.process.kill('SIGTERM')
  t.same(await run.exit, [0, null])
  t.same(
    run.lines.filter((l) => l.msg === 'asked').map((l) => l['who']),
    ['worker', 'supervisor'],
  )
  t.notOk(run.lines.some((l) => l.msg.startsWith('died')))
})

t.test('a worker that does not end by its deadline is killed, and the exit code says so', async (t) => {
  const run = new Run(t, { ...both, worker: STUBBORN }, { drainMs: 100, graceMs: 100 })
  await run.up()
  run.process.kill('SIGTERM')
  t.same(await run.exit, [1, null])
  t.ok(run.lines.some((l) => l.msg.startsWith('killed') && l.child === 'worker'))
})

t.test('a second signal ends everything at once', async (t) => {
  const run = new Run(t, { ...both, worker: STUBBORN }, { drainMs: 60_000, graceMs: 2_000 })
  await run.up()
  run.process.kill('SIGTERM')
  await run.line((l) => l.msg === 'draining')
  run.process.kill('SIGINT')
  t.same(await run.exit, [130, null])
})

t.test('a launcher that is killed takes its children along', async (t) => {
  const gone = LIFELINE.replace(
    'process.exit(0)',
    "(console.log(JSON.stringify({msg: 'gone'})), process.exit(0))",
  )
  const script = `${gone} ${UP}`
  const run = new Run(t, { supervisor: script, worker: script })
  await run.up()
  run.process.kill('SIGKILL')
  await run.line((l) => l.msg === 'gone', 2)
  t.pass('both saw the end of the pipe')
})

t.test('a child that finds its configuration wrong ends the whole with 64', async (t) => {
  const run = new Run(t, { ...both, supervisor: `${LIFELINE} process.exit(64)` })
  t.same(await run.exit, [64, null])
  t.equal(run.lines.filter((l) => l.msg === 'started' && l.child === 'supervisor').length, 1)
})

const SERVING = {
  supervisor: `${named('supervisor', DRAINS)}; ${SERVES}`,
  worker: `${named('worker', DRAINS)}; ${LEAVES} ${SERVES}`,
}

t.test('SIGHUP: the supervisor first, then each worker once its successor serves', async (t) => {
  const run = new Run(t, SERVING, { workers: 2 })
  await run.line((l) => l.msg === 'serves', 3)
  const [first, second] = ['0', '1'].map(
    (slot) => run.lines.find((l) => l.msg === 'serves' && l['who'] === 'worker' && l['slot'] === slot)?.pid,
  )
  run.process.kill('SIGHUP')
  await run.line((l) => l.msg === 'left', 2)
  const since = run.lines.slice(run.lines.findIndex((l) => l.msg === 'replacing'))
  const at = (matches: (l: Line) => boolean) => {
    const found = since.findIndex(matches)
    return found < 0 ? Number.NaN : found
  }
  const serves = (who: string, slot: string) =>
    at((l) => l.msg === 'serves' && l['who'] === who && l['slot'] === slot)
  const left = (pid: unknown) => at((l) => l.msg === 'left' && l.pid === pid)
  t.ok(at((l) => l.msg === 'asked' && l['who'] === 'supervisor') < serves('supervisor', '0'))
  t.ok(serves('supervisor', '0') < serves('worker', '0'))
  t.ok(serves('worker', '0') < left(first))
  t.ok(serves('worker', '0') < serves('worker', '1'), 'one at a time')
  t.ok(serves('worker', '1') < left(second))
  t.notOk(run.lines.some((l) => l.msg.startsWith('died')))
})

t.test('a successor that does not serve in time, or dies, is given up; what there was stays', async (t) => {
  const asks = `if (process.env.ISTHMUS_SLOT === '0') require('node:fs').writeSync(3, '{"notice":"replace"}\\n')`
  for (const [successor, said, readyMs] of [
    [`console.log(JSON.stringify({msg: 'mute'}))`, /does not serve/, 300],
    ['process.exit(3)', /died beside another/, 30_000],
  ] as const) {
    const first = `if (process.env.ISTHMUS_GENERATION === '1') { ${SERVES} ${asks} }`
    const worker = `${named('worker', DRAINS)}; ${LEAVES} ${first} else ${successor}`
    const run = new Run(t, { ...SERVING, worker }, { workers: 2, readyMs })
    await run.line((l) => l.msg === 'replacement given up: what there was before goes on')
    t.match(await run.line((l) => said.test(l.msg)), { child: 'worker', slot: 0 })
    await run.line((l) => l.msg === 'serves', 3)
    const started = run.lines.filter((l) => l.msg === 'started' && l.child === 'worker')
    t.equal(started.length, 3, 'and no other is tried')
    run.process.kill('SIGTERM')
    t.same(await run.exit, [0, null])
    t.notOk(run.lines.some((l) => l.msg === 'left'))
  }
})

t.test('a worker in a crash loop leaves the others alone', async (t) => {
  const worker = `if (process.env.ISTHMUS_SLOT === '1') process.exit(3); ${SERVING.worker}`
  const run = new Run(t, { ...SERVING, worker }, { workers: 2 })
  await run.line((l) => l.msg === 'died, starting another' && l['slot'] === 1, 3)
  t.equal(run.lines.filter((l) => l.msg === 'started' && l['slot'] === 0 && l.child === 'worker').length, 1)
})

t.test(
  'an address that is taken is tried until it can be had; workers know, and are replaced then',
  async (t) => {
    const other = createServer().listen(0, '127.0.0.1')
    await once(other, 'listening')
    const { port } = other.address() as AddressInfo
    const tells = "console.log(JSON.stringify({msg: 'inherits', sockets: process.env.ISTHMUS_LISTEN}));"
    const run = new Run(
      t,
      { ...SERVING, worker: `${tells} ${SERVING.worker}` },
      {
        listen: [{ host: '127.0.0.1', port }],
      },
    )
    t.match(await run.line((l) => l.msg === 'inherits'), { sockets: `127.0.0.1:${port}!EADDRINUSE` })
    await run.line((l) => l.msg === 'serves', 2)
    other.close()
    t.match(await run.line((l) => l.msg === 'inherits', 2), { sockets: `127.0.0.1:${port}=4` })
    await run.line((l) => l.msg === 'all replaced')
  },
)
