import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { BUN_VERSION, findRuntime } from '../../src/cli/runtime.ts'

const folder = mkdtempSync(join(tmpdir(), 'isthmus-runtime-'))
const before = process.env['ISTHMUS_BUN']
t.teardown(() => {
  rmSync(folder, { recursive: true })
  if (before === undefined) delete process.env['ISTHMUS_BUN']
  else process.env['ISTHMUS_BUN'] = before
})

/** A program that says which version it is, and ends as it is told. */
function program(name: string, script: string): string {
  const path = join(folder, name)
  writeFileSync(path, `#!/bin/sh\n${script}\n`, { mode: 0o755 })
  return path
}

t.test('one exact version of Bun, that of the platform packages', async (t) => {
  const manifest = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
    optionalDependencies: Record<string, string>
  }
  for (const name of ['@oven/bun-linux-x64', '@oven/bun-linux-aarch64'])
    t.equal(manifest.optionalDependencies[name], BUN_VERSION, name)
  process.env['ISTHMUS_BUN'] = program('right', `echo ${BUN_VERSION}`)
  t.match(findRuntime('bun'), { ok: true, value: { name: 'bun', file: join(folder, 'right'), argv: [] } })
  t.match(
    findRuntime('bun'),
    { value: { env: { BUN_JSC_useFTLJIT: '0' } } },
    'without the last of its compilers',
  )
  t.match(findRuntime('auto'), { ok: true, value: { name: 'bun' } })
  t.match(findRuntime('node'), { ok: true, value: { name: 'node', file: process.execPath } })
})

t.test('any other, or one that does not start, is refused by name; auto takes Node', async (t) => {
  const cases: [string, RegExp][] = [
    [program('older', 'echo 1.3.9'), /Bun 1\.4\.5 is not here: .*older 1\.3\.9$/],
    [program('crashes', 'kill -ILL $$'), /crashes cannot be run \(SIGILL\)$/],
    [program('fails', 'exit 3'), /fails cannot be run \(exit code 3\)$/],
    [join(folder, 'nowhere'), /nowhere cannot be run \(ENOENT\)$/],
  ]
  for (const [path, error] of cases) {
    process.env['ISTHMUS_BUN'] = path
    t.match(findRuntime('bun'), { ok: false, error })
    t.match(findRuntime('auto'), { ok: true, value: { name: 'node' } }, path)
  }
})

t.test(
  'a Node worker has a young generation that stays small, so that no collection of it takes long',
  async (t) => {
    // As connections do: much is made, much of it lives for a while.
    const script = `
    const held = []
    let most = 0
    for (let i = 0; i < 400_000; i++) {
      held[i % 100_000] = { i, of: [i] }
      if (i % 1_000 > 0) continue
      const space = require('node:v8').getHeapSpaceStatistics().find((each) => each.space_name === 'new_space')
      most = Math.max(most, space.space_size)
    }
    console.log(most)`
    const mostBytes = (flags: readonly string[]): number =>
      Number(spawnSync(process.execPath, [...flags, '-e', script], { encoding: 'utf8' }).stdout)
    const found = findRuntime('node')
    const flags = found.ok ? found.value.argv.filter((flag) => !process.execArgv.includes(flag)) : []
    const [ours, without] = [mostBytes(flags), mostBytes([])]
    t.ok(ours <= 6 * 1_048_576, `${ours} bytes at most, two halves of 2 MiB and what large objects take`)
    t.ok(without > 2 * ours, `${without} bytes without: it is the flag that does it`)
  },
)
