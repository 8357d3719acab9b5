import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { KeptProcess, type ProcessSpec } from '../../src/cli/demo/kept-process.ts'

function keep(t: Test, spec: Partial<ProcessSpec> & Pick<ProcessSpec, 'argv'>) {
  const starts: number[] = []
  const waiting: { count: number; resolve: () => void }[] = []
  const kept = new KeptProcess(
    { name: 'test', env: {}, logFile: join(t.testdir(), 'log'), ...spec },
    {
      onStart(pid) {
        starts.push(pid)
        for (const { count, resolve } of waiting) if (starts.length >= count) resolve()
      },
      onRestart: () => undefined,
    },
  )
  t.teardown(() => kept.stop(1_000))
  const started = (count: number) =>
    new Promise<void>((resolve) => (starts.length >= count ? resolve() : waiting.push({ count, resolve })))
  return { kept, starts, started }
}

const gone = async (pid: number) => {
  for (;;) {
    try {
      process.kill(pid, 0)
    } catch {
      return
    }
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

t.test('a killed process is another one soon after; a stopped one stays away', async (t) => {
  const { kept, starts, started } = keep(t, { argv: [process.execPath, '-e', 'setInterval(() => {}, 1000)'] })
  kept.start()
  await started(1)
  process.kill(starts[0]!, 'SIGKILL')
  await started(2)
  t.not(starts[1], starts[0])
  await kept.stop(2_000)
  t.equal(kept.pid, undefined)
  t.equal(starts.length, 2)
})

t.test('a process that ignores SIGTERM is killed at the end of its grace', async (t) => {
  const lines: string[] = []
  let ready = () => {}
  const isReady = new Promise<void>((resolve) => (ready = resolve))
  const script = `process.on('SIGTERM', () => {}); setInterval(() => {}, 1000); require('fs').writeSync(4, 'up\\n')`
  const { kept, started } = keep(t, {
    argv: [process.execPath, '-e', script],
    onLine(line) {
      lines.push(line)
      ready()
    },
  })
  kept.start()
  await started(1)
  await isReady
  t.strictSame(lines, ['up'])
  const pid = kept.pid!
  await kept.stop(100)
  await gone(pid)
})

t.test('a foreign program ends with the process that keeps it, even killed', async (t) => {
  const module = new URL('../../src/cli/demo/kept-process.ts', import.meta.url)
  const script = `
    const { KeptProcess } = await import(${JSON.stringify(module.href)})
    const kept = new KeptProcess({ name: 'x', argv: ['sleep', '600'], env: {}, logFile: '/dev/null', foreign: true },
      { onStart: (pid) => console.log(pid), onRestart() {} })
    kept.start()
    setInterval(() => {}, 1000)`
  const keeper = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const [chunk] = (await once(keeper.stdout, 'data')) as [Buffer]
  const pid = Number(chunk.toString())
  t.ok(pid > 0)
  keeper.kill('SIGKILL')
  await gone(pid)
})
