import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { type BenchFlags, benchCommand, readSettings, readTarget } from '../../src/cli/bench-options.ts'
import { createCa } from '../../src/identity/ca.ts'
import { xmlProblem } from '../load/xml-problem.ts'
import { isthmus } from './run.ts'

const MAIN = join(import.meta.dirname, '..', '..', 'src', 'main.ts')

function folder(t: Test): string {
  const path = mkdtempSync(join(tmpdir(), 'isthmus-bench-cli-test-'))
  t.teardown(() => rmSync(path, { recursive: true }))
  return path
}

/** The program, and the first line that it says. */
async function started(...args: string[]): Promise<{ child: ChildProcess; said: string }> {
  const child = spawn(process.execPath, [MAIN, ...args], { stdio: ['ignore', 'pipe', 'inherit'] })
  const [line] = await once(child.stdout as NonNullable<ChildProcess['stdout']>, 'data')
  return { child, said: String(line) }
}

const flagsOf = (...args: string[]): BenchFlags => {
  const command = benchCommand().exitOverride()
  command.action(() => {})
  return command.parse(args, { from: 'user' }).opts<BenchFlags>()
}

t.test('without a target it shows a gateway of its own, and takes everything away again', async (t) => {
  const path = folder(t)
  const [json, report] = [join(path, 'result.json'), join(path, 'report.html')]
  const ours = () => readdirSync(tmpdir()).filter((name) => name.startsWith('isthmus-bench-own-'))
  const before = ours()
  const { code, stdout, stderr } = await isthmus(
    ...['bench', 'storm', '--rate', '100', '--duration', '400ms', '--warm-up', '100ms'],
    ...['--json', json, '--report', report],
  )
  t.equal(code, 0, stderr)
  t.match(stderr, /no --target: starting a gateway of our own \(node, one worker\)/)
  t.match(stderr, /1\.0 s {2}quiet {2}\d+ requests\/s/)
  t.match(stdout, /mutual TLS, SNI outbound_\.80_\._\.backend\.bench\.svc\.cluster\.local/)
  t.match(stdout, /2 processes of node/)
  for (const phase of ['before', 'storm', 'after']) t.match(stdout, new RegExp(`^quiet, ${phase} +40 `, 'm'))
  t.match(stdout, /p99 of quiet in the storm: [\d.,]+ times that before it/)
  t.match(stdout, /^[A-Z].*generator.*\.$/m)
  const { flows } = JSON.parse(readFileSync(json, 'utf8'))
  t.match(flows[0], { name: 'quiet', measured: { requests: 120, errors: 0 } })
  t.ok(flows[1].measured.connections > 0)
  t.equal(xmlProblem(readFileSync(report, 'utf8')), '')
  t.same(ours(), before, 'its files are gone')
})

t.test('against a service of the user: both count the same, also in several processes', async (t) => {
  const json = join(folder(t), 'result.json')
  const { child, said } = await started('bench', 'backend', '--listen', '127.0.0.1:0', '--size', '321')
  t.teardown(() => child.kill('SIGKILL'))
  const target = /listening on (\S+:\d+):/.exec(said)?.[1] ?? ''
  const { code, stdout, stderr } = await isthmus(
    ...['bench', '--target', target, '--plain', '-c', '3', '-d', '200ms', '--warm-up', '0s', '-q', '-p', '2'],
    ...['--json', json],
  )
  t.equal(code, 0, stdout)
  t.equal(stderr, '')
  const counted = once(child.stdout as NonNullable<ChildProcess['stdout']>, 'data')
  child.kill('SIGINT')
  const counters = JSON.parse(String((await counted)[0]))
  const { connections, requests, bytesReceived, errors } = JSON.parse(readFileSync(json, 'utf8')).flows[0]
    .total
  t.same(counters, { connections, requests, bytesSent: bytesReceived, bytesReceived: 0 })
  t.same([connections, errors, bytesReceived], [3, 0, requests * 321])
  t.same(await once(child, 'exit'), [0, null])
})

t.test('a target that nobody listens on is an error with its kind, exit code 1', async (t) => {
  const { code, stdout, stderr } = await isthmus(
    'bench',
    '--target',
    '127.0.0.1:1',
    '--plain',
    '-c',
    '2',
    '-q',
  )
  t.equal(code, 1)
  t.match(stdout, /2 × ECONNREFUSED: connect ECONNREFUSED 127\.0\.0\.1:1/)
  t.match(stderr, 'isthmus bench: nothing succeeded (0 connections, no answer)')
})

t.test('each mistake is one message that names the option, exit code 64', async (t) => {
  const unwritable = await isthmus('bench', '--json', '/nonexistent/result.json')
  t.match(unwritable, {
    code: 64,
    stderr: /^isthmus bench: --json: \/nonexistent\/result\.json cannot be written \(ENOENT\)\n$/,
  })
  const mistakes: [string, string[], string][] = [
    ['everything', [], 'there is no scenario "everything"; there are requests, handshakes, '],
    ['idle', ['--rate', '3'], '--rate: idle has no rate'],
    ['requests', ['--rate', 'fast'], '--rate: expected a number over 0, per second; found "fast"'],
    ['requests', ['--storm-rate', '3'], '--storm-rate: only storm has one'],
    ['requests', ['-c', '0'], '--connections: expected a number from 1 to 1000000, found "0"'],
    ['requests', ['-c', '1e3'], '--connections: expected a number'],
    ['requests', ['--size', '-1'], '--size: expected a number from 0'],
    ['requests', ['-p', 'many'], '--processes: expected a number from 1 to 256, found "many"'],
    ['requests', ['-d', '5'], '--duration: "5" is no duration'],
    ['requests', ['-d', '50ms'], '--duration: expected 100ms or more, found "50ms"'],
    ['requests', ['--path', 'a b'], '--path: expected / and what follows, without spaces; found "a b"'],
    ['requests', ['--path', '/a\r\nX: y'], '--path: expected /'],
    ['requests', ['--host', 'a\nb'], '--host: expected a name'],
    ['requests', ['--max-errors', 'x'], '--max-errors: expected a number'],
  ]
  for (const [scenario, args, error] of mistakes) {
    const read = readSettings(scenario, flagsOf(...args))
    t.ok(!read.ok && read.error.startsWith(error), `${args.join(' ')}: ${read.ok ? 'taken' : read.error}`)
  }
})

t.test('what is wrong with a target is one message too', async (t) => {
  const path = folder(t)
  const file = (name: string, content: string) => {
    writeFileSync(join(path, name), content)
    return join(path, name)
  }
  const ca = await createCa({ trustDomain: 'bench.test' })
  const client = await ca.issue({ namespace: 'a', serviceAccount: 'b' })
  const other = await ca.issue({ namespace: 'a', serviceAccount: 'c' })
  const cert = file('tls.crt', client.certificatePem)
  const key = file('tls.key', client.privateKeyPem)
  const otherKey = file('other.key', other.privateKeyPem)
  const trust = file('ca.crt', ca.bundlePem)
  const address = ['--target', '127.0.0.1:15443']
  const target = [...address, '--sni', 'a']
  const mistakes: [string[], RegExp][] = [
    [['--sni', 'x'], /^--sni: needs --target$/],
    [['--expect-san', 'x'], /^--expect-san: needs --target$/],
    [['--target', 'nowhere'], /^--target: expected a port/],
    [['--target', 'nowhere.invalid:1', '--plain'], /^--target: nowhere\.invalid does not resolve$/],
    [address, /^--sni: is missing; a gateway routes by it, and 127\.0\.0\.1 is no name$/],
    [target, /^--cert: is missing; --target wants --cert, --key and --ca/],
    [[...target, '--cert', cert, '--key', key], /^--ca: is missing/],
    [[...address, '--plain', '--sni', 'x'], /^--sni: is of no use with --plain$/],
    [
      [...target, '--cert', join(path, 'none'), '--key', key, '--ca', trust],
      /^--cert: .*none cannot be read \(ENOENT\)$/,
    ],
    [
      [...target, '--cert', cert, '--key', otherKey, '--ca', trust],
      /the key does not belong to the certificate/,
    ],
    [[...target, '--cert', cert, '--key', key, '--ca', key], /ca: /],
    [
      [...target, '--cert', cert, '--key', key, '--ca', trust, '--expect-san', 'gateway'],
      /"gateway" is no SPIFFE id/,
    ],
  ]
  for (const [args, error] of mistakes) {
    const read = await readTarget(flagsOf(...args))
    t.match(read.ok ? 'taken' : read.error, error, args.join(' '))
  }
  const good = await readTarget(flagsOf(...target, '--cert', cert, '--key', key, '--ca', trust, '--sni', 'b'))
  t.match(good, { ok: true, value: { port: 15443, tls: { serverNames: ['a', 'b'] } } })
})

t.test('--help names every scenario and the service', async (t) => {
  let text = ''
  const command = benchCommand().configureOutput({ writeOut: (more) => (text += more) })
  command.outputHelp()
  for (const word of [
    'storm',
    'churn',
    'stalled-upload',
    'backend',
    '--expect-san',
    'HTTP/1.1',
    'Exit codes',
  ])
    t.match(text, word)
})
