import { spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import t from 'tap'
import { readCredentialFlags } from '../../src/cli/credential-flags.ts'
import { parseDuration } from '../../src/cli/flag-values.ts'
import { MAIN } from '../process/pod.ts'

const WHO = [
  '--cluster',
  'c',
  '--name',
  'n',
  '--namespace',
  'ns',
  '--certs',
  '/nowhere',
  '--run-dir',
  '/nowhere',
]

function run(args: readonly string[], env: Record<string, string> = {}) {
  const { status, stderr } = spawnSync(process.execPath, [MAIN, ...args], {
    env: { ...process.env, ...env },
    encoding: 'utf8',
  })
  return { status, stderr }
}

t.test('durations', async (t) => {
  t.same(
    ['500ms', '45s', '2m', '1h'].map(parseDuration),
    [500, 45_000, 120_000, 3_600_000].map((value) => ({ ok: true, value })),
  )
  for (const text of ['', '45', 's', '-1s', '1.5s', '45 s', '1d']) t.notOk(parseDuration(text).ok, text)
})

t.test('where our own certificate comes from: a folder, an agent, a CA, discovery', async (t) => {
  const read = (credentials: string) =>
    readCredentialFlags({ certs: '', credentials, caRoot: '', caToken: '', spiffeId: '' })
  t.same(read('discovery:xds.example:15012,/run/certs'), {
    ok: true,
    value: { kind: 'discovery', address: 'xds.example:15012', directory: '/run/certs' },
  })
  for (const wrong of ['discovery:', 'discovery:xds:15012', 'discovery:xds,/run', 'discovery:xds:15012,'])
    t.match(read(wrong), { ok: false, error: /^--credentials discovery: expected HOST:PORT,FOLDER/ }, wrong)
  t.match(read('vault:x'), { ok: false, error: /expected files:…, sds:…, istio-ca:… or discovery:…/ })
})

t.test('every mistake is named in one start, and the exit code is 64', async (t) => {
  const flags = [
    '--discovery',
    'nowhere',
    '--drain',
    'soon',
    '--dns-upstream',
    'dns.example',
    '--socks',
    'x',
    '--log-level',
    'loud',
    '--allow-local-endpoints',
    'yes',
  ]
  const { status, stderr } = run(['sidecar', ...WHO, ...flags, '--bind', '127.240.0.1/16'])
  t.equal(status, 64)
  for (const flag of [
    'discovery',
    'drain',
    'dns-upstream',
    'socks',
    'log-level',
    'bind',
    'allow-local-endpoints',
  ])
    t.match(stderr, `isthmus sidecar: --${flag}: `)
})

t.test('a flag may come from the environment; one that is missing is named', async (t) => {
  const { status, stderr } = run(['gateway', ...WHO], {
    ISTHMUS_DISCOVERY: 'not an address',
    ISTHMUS_DRAIN: '1s',
  })
  t.equal(status, 64)
  t.match(stderr, '--discovery: ')
  t.notMatch(stderr, '--drain')
  t.match(run(['gateway', ...WHO]), { status: 64, stderr: /--discovery/ })
})

t.test('drain says what went wrong, with 1, or 64 for bad usage', async (t) => {
  t.match(run(['drain', '--admin', 'nowhere']), { status: 64, stderr: /--admin/ })
  const closed = createServer().listen(0, '127.0.0.1')
  await once(closed, 'listening')
  const { port } = closed.address() as AddressInfo
  closed.close()
  await once(closed, 'close')
  t.match(run(['drain', '--admin', `127.0.0.1:${port}`]), { status: 1, stderr: /ECONNREFUSED/ })
})
