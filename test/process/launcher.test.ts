import { spawn } from 'node:child_process'
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

class Run extends LoggedProcess<Line> {
  constructor(
    scope: Scope,
    scripts: { supervisor: string; worker: string },
    times = { drainMs: 5_000, graceMs: 2_000 },
  ) {
    const program = `
      const { launch } = await import(${JSON.stringify(launcherUrl)})
      const scripts = ${JSON.stringify(scripts)}
      process.exit(await launch({ ...${JSON.stringify(times)}, program: (child) => ({ file: process.execPath, argv: ['-e', scripts[child]] }) }))`
    const argv = ['--input-type=module', '-e', program]
    super(scope, spawn(process.execPath, argv, { stdio: ['ignore', 'pipe', 'inherit'] }))
  }

  started(child: string, generation = 1): Promise<Line> {
    return this.line((l) => l.msg === 'started' && l.child === child && l.generation === generation)
  }

  async up(): Promise<void> {
    await this.line(() => this.lines.filter((l) => l.msg === 'up').length >= 2)
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
  await run.line(() => run.lines.filter((l) => l.msg === 'gone').length === 2)
  t.pass('both saw the end of the pipe')
})

t.test('a child that finds its configuration wrong ends the whole with 64', async (t) => {
  const run = new Run(t, { ...both, supervisor: `${LIFELINE} process.exit(64)` })
  t.same(await run.exit, [64, null])
  t.equal(run.lines.filter((l) => l.msg === 'started' && l.child === 'supervisor').length, 1)
})
