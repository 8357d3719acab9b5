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
