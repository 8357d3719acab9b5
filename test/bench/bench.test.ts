// The benchmark works; its figures are not judged here.
import { execFile } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { compare } from '../../bench/cases.ts'
import { Figures } from '../../bench/report.ts'

const script = join(dirname(fileURLToPath(import.meta.url)), '..', '..', 'bench', 'run.ts')

function bench(args: readonly string[], env: NodeJS.ProcessEnv): Promise<{ code: number; text: string }> {
  return new Promise((resolve) => {
    execFile(process.execPath, [script, ...args], { env: { ...process.env, ...env } }, (error, out, err) =>
      resolve({ code: error === null ? 0 : Number(error.code), text: out + err }),
    )
  })
}

t.test('our engine beside its prototype: every figure, every round, counted at both ends', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'isthmus-bench-test-'))
  const file = join(folder, 'figures.json')
  const targets = ['ours-node', 'prototype-node']
  const load = ['--quick', '--rounds', '1', '--seconds', '0.1', '--targets', targets.join(',')]
  const { code, text } = await bench([...load, '--json', file, '--markdown', join(folder, 'run.md')], {})
  t.equal(code, 0, text)
  t.match(text, /The backend counted what the client counted/)
  t.match(text, /ours-node \/ prototype-node/)
  const { rounds, programs, negotiated, machine } = JSON.parse(readFileSync(file, 'utf8'))
  t.ok(machine.cpus > 0 && machine.kernel !== '')
  for (const target of targets) {
    t.equal(programs[target], process.version)
    t.equal(negotiated[target], 'TLSv1.3 TLS_AES_128_GCM_SHA256 X25519')
    const columns = Object.entries(rounds[target] as Record<string, number[]>)
    t.equal(columns.length, 7)
    t.ok(
      columns.every(([, values]) => values.length === 1 && values.every(Number.isFinite)),
      JSON.stringify(columns),
    )
    t.ok(columns.slice(0, 4).every(([, [cpu = 0]]) => cpu > 0))
  }
  const again = await bench(['--from', file, '--markdown', join(folder, 'again.md')], {})
  t.equal(again.text, text, 'what was written says the same once more')
  const document = readFileSync(join(folder, 'run.md'), 'utf8')
  t.equal(readFileSync(join(folder, 'again.md'), 'utf8'), document)
  t.match(document, /\| ours-node \| v\d+\.\d+\.\d+, OpenSSL .* TLSv1\.3 TLS_AES_128_GCM_SHA256 X25519 \|/)
  t.match(readFileSync(join(folder, 'performance', 'cpu.svg'), 'utf8'), /<svg .*prototype-node.*<\/svg>/s)
  rmSync(folder, { recursive: true })
})

t.test('a peer that is not there is said, and is an error where CI is set', async (t) => {
  const names = ['envoy', 'haproxy', 'nginx']
  const args = ['--rounds', '0', '--memory-rounds', '0', '--targets', names.join(',')]
  const missing = Object.fromEntries(
    names.map((name) => [`${name.toUpperCase()}_BIN`, `/nonexistent/${name}`]),
  )
  const laptop = await bench(args, { ...missing, CI: '' })
  t.equal(laptop.code, 0, laptop.text)
  for (const name of names)
    t.ok(new RegExp(`${name} is not measured: .*/nonexistent/${name}`).test(laptop.text), name)
  const ci = await bench(args, { ...missing, CI: 'true' })
  t.equal(ci.code, 1)
  t.match(ci.text, /nginx is missing/)
})

t.test('ends that do not agree are named', async (t) => {
  const zero = { connections: 0, requests: 0, bytesSent: 0, bytesReceived: 0 }
  const said = { connections: 2, requests: 3, bytesReceived: 300, bytesSent: 0, errors: 0, error: '' }
  const whole = { connections: 2, requests: 3, bytesSent: 300, bytesReceived: 0 }
  t.same(compare('case', zero, whole, said), [])
  t.same(compare('case', zero, { ...whole, connections: 3 }, said), [
    'case: connections: backend 3, client 2',
  ])
  t.same(compare('case', zero, { ...whole, bytesSent: 299 }, said), [
    'case: bytes downloaded: backend 299, client 300',
  ])
  t.same(compare('case', zero, whole, { ...said, errors: 1, error: 'reset' }), [
    'case: 1 errors, first: reset',
  ])
})

t.test('a ratio is of the same round', async (t) => {
  const figures = new Figures()
  for (const [ours, other] of [
    [10, 10],
    [40, 20],
    [30, 10],
  ] as const) {
    figures.add('ours', 'µs', ours)
    figures.add('other', 'µs', other)
  }
  t.equal(figures.median('ours', 'µs'), 30)
  t.equal(figures.ratio('ours', 'other', 'µs'), 2)
  t.ok(Number.isNaN(figures.ratio('ours', 'nobody', 'µs')))
})
