// The real process: its flags, its log line, its ports.
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import t from 'tap'
import { createCa } from '../../src/identity/ca.ts'
import { writeCredential } from '../../src/identity/ca-folder.ts'
import { gateway, service, setting, workspace } from '../resources/world.ts'

const MAIN = join(import.meta.dirname, '../../src/main.ts')
const ANY = '127.0.0.1:0'

function run(args: readonly string[], env: Record<string, string> = {}): ChildProcess {
  return spawn(process.execPath, [MAIN, 'discovery', ...args], {
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
}

interface Line {
  readonly msg: string
  readonly [field: string]: unknown
}

/** The first log line that says `msg`. */
async function line(child: ChildProcess, msg: string): Promise<Line> {
  if (child.stdout === null) throw new Error('no output')
  for await (const text of createInterface({ input: child.stdout })) {
    const parsed = JSON.parse(text) as Line
    if (parsed.msg === msg) return parsed
  }
  throw new Error(`ended without "${msg}"`)
}

const at = (value: unknown): string => {
  const { host, port } = value as { host: string; port: number }
  return `http://${host}:${port}`
}

t.test('serves its ports, says what it awaits, and ends cleanly', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'isthmus-discovery-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const [yaml, certs] = [join(folder, 'yaml'), join(folder, 'certs')]
  await Promise.all([mkdir(yaml), mkdir(certs)])
  await writeFile(
    join(yaml, 'world.yaml'),
    service({ name: 'productpage', pods: ['10.0.1.1:80'] }) + gateway('203.0.113.10') + workspace + setting(),
  )
  await writeFile(
    join(yaml, 'org.yaml'),
    // biome-ignore lint/suspicious/noTemplateCurlyInString: it is substituted by the process
    'apiVersion: v1\nkind: Namespace\nmetadata: {name: "${ORG}-x"}\n',
  )
  const ports = ['--ads', '--ads-plain', '--admin', '--health', '--metrics'].flatMap((flag) => [flag, ANY])
  const child = run(['--cluster', 'cluster-1', '--objects', yaml, '--certs', certs, ...ports], {
    ORG: 'acme',
    TEN: 'eng',
  })
  t.teardown(() => child.kill('SIGKILL'))
  const ready = line(child, 'ready')

  const ca = await createCa({ trustDomain: 'cluster-1.local' })
  const issued = await ca.issue({ namespace: 'isthmus-system', serviceAccount: 'isthmus-discovery' })
  await writeCredential(certs, { ...issued, bundlePem: ca.bundlePem })
  const { ads, adsPlain, admin, health, metrics } = await ready
  t.match([ads, adsPlain], [{ port: Number }, { host: '127.0.0.1', port: Number }])
  t.equal((await fetch(`${at(health)}/readyz`)).status, 200)
  const status = (await (await fetch(`${at(admin)}/status`)).json()) as object
  t.match(status, {
    cluster: 'cluster-1',
    trustDomain: 'cluster-1.local',
    ready: true,
    pending: [],
    problems: [],
  })
  const { exposures } = status as { exposures: { host: string }[] }
  t.match(
    exposures.find(({ host }) => host.startsWith('productpage.')),
    { exposed: true, gateway: 'bookinfo/eastwest-gateway', rule: 'bookinfo-ws/bookinfo-ws-setting[0]' },
  )
  const explained = await fetch(`${at(admin)}/explain?from=cluster-2&host=productpage.bookinfo&port=9080`)
  t.match(await explained.json(), {
    sni: 'outbound_.9080_._.productpage.bookinfo.svc.cluster.local',
    hops: [{ hop: 'exposed', ok: true }],
  })
  t.equal((await fetch(`${at(admin)}/explain?host=x`)).status, 400)
  t.match(await (await fetch(`${at(metrics)}/metrics`)).text(), /^isthmus_discovery_models_total \d+$/m)
  t.equal((await fetch(`${at(admin)}/logging?level=debug`)).status, 405)
  t.match(await (await fetch(`${at(admin)}/logging?level=debug`, { method: 'POST' })).json(), {
    level: 'debug',
  })
  for (const path of ['/exports', '/clients', '/config_dump'])
    t.equal((await fetch(`${at(admin)}${path}`)).status, 200, path)
  child.kill('SIGTERM')
  t.strictSame(await once(child, 'exit'), [0, null])
})

t.test('not ready without a credential: /readyz and /status say so', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'isthmus-discovery-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const ports = ['--ads', '--admin', '--health', '--metrics'].flatMap((flag) => [flag, ANY])
  const child = run([
    '--cluster',
    'c',
    '--objects',
    folder,
    '--certs',
    join(folder, 'none'),
    '--ads-plain',
    'off',
    ...ports,
  ])
  t.teardown(() => child.kill('SIGKILL'))
  const { pending, health, admin } = await line(child, 'not ready yet')
  t.strictSame(pending, ['ads', 'credential'])
  const readyz = await fetch(`${at(health)}/readyz`)
  t.strictSame([readyz.status, await readyz.json()], [503, ['ads', 'credential']])
  t.match(await (await fetch(`${at(admin)}/status`)).json(), {
    ready: false,
    problems: [{ field: 'tls.crt', message: /no such file/ }],
  })
})

t.test('wrong usage ends with 64 and names the flag', async (t) => {
  const cases: [readonly string[], RegExp][] = [
    [['--objects', '.', '--certs', '.'], /--cluster/],
    [
      ['--cluster', 'c', '--objects', '.', '--certs', '.', '--ads', 'nowhere'],
      /--ads: found "nowhere", expected IP:PORT/,
    ],
  ]
  for (const [args, message] of cases) {
    const child = run(args)
    const stderr: Buffer[] = []
    child.stderr?.on('data', (chunk: Buffer) => stderr.push(chunk))
    const [code] = (await once(child, 'close')) as [number]
    t.equal(code, 64)
    t.match(Buffer.concat(stderr).toString(), message)
  }
})
