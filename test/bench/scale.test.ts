// The benchmark of thousands of services works; its figures are not judged here, but that nothing failed.
import { execFile } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'

const script = fileURLToPath(new URL('../../bench/scale/run.ts', import.meta.url))

t.test('services come, move and go on a whole gateway under traffic, and no request fails', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'isthmus-scale-test-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const file = join(folder, 'figures.json')
  const args = [
    '--quick',
    '--services',
    '500',
    '--targets',
    'ours-node',
    '--connections',
    '20',
    '--json',
    file,
  ]
  const { code, text } = await new Promise<{ code: number; text: string }>((resolve) => {
    execFile(process.execPath, [script, ...args], (error, out, err) =>
      resolve({ code: error === null ? 0 : Number(error.code), text: out + err }),
    )
  })
  t.equal(code, 0, text)
  const { rounds, idle } = JSON.parse(readFileSync(file, 'utf8'))
  const figures = rounds['ours-node'] as Record<string, number[]>
  t.same(figures['failed'], [0])
  t.ok((figures['requests']?.[0] ?? 0) > 0 && (figures['new connections']?.[0] ?? 0) > 0)
  for (const step of ['add', 'move', 'remove'])
    for (const column of ['worker CPU ms', 'supervisor CPU ms', 'seen after ms', 'longest turn ms'])
      t.ok(Number.isFinite(figures[`${step}: ${column}`]?.[0]), `${step}: ${column}`)
  t.ok(idle['ours-node']['20 connections'].every(Number.isFinite))
})
