// Two clusters that know nothing of each other, in real processes: linked by a token, through the one port of a gateway.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { runAccept, runCreate } from '../../src/cli/link.ts'
import type { Terminal } from '../../src/cli/object-command.ts'
import { decodeToken, encodeToken } from '../../src/discovery/link-token.ts'
import { createCa } from '../../src/identity/ca.ts'
import { writeCredential } from '../../src/identity/ca-folder.ts'
import { gateway, reachability, service, setting, workspace } from '../resources/world.ts'
import { LoggedProcess } from './logged-process.ts'
import { eventually, folder, freePort, type Line, MAIN, onLoopback, Pod, type Scope } from './pod.ts'

const ANY = '127.0.0.1:0'

class TestTerminal implements Terminal {
  readonly env = {}
  stdout = ''
  stderr = ''
  stdin = async () => ''
  out(text: string): void {
    this.stdout += text
  }
  err(text: string): void {
    this.stderr += text
  }
}

class Cluster extends LoggedProcess<Line> {
  readonly yaml: string
  readonly admin: string
  readonly metrics: string

  private constructor(
    scope: Scope,
    args: readonly string[],
    yaml: string,
    at: { admin: string; metrics: string },
  ) {
    super(
      scope,
      spawn(process.execPath, [MAIN, 'discovery', ...args], {
        stdio: ['ignore', 'pipe', 'inherit'],
        env: onLoopback(),
      }),
    )
    this.yaml = yaml
    this.admin = at.admin
    this.metrics = at.metrics
  }

  /** `ads`: where its gateway finds it. */
  static async start(scope: Scope, name: string, ads: string, yaml: string): Promise<Cluster> {
    const path = folder(scope)
    const ca = await createCa({ trustDomain: `${name}.local` })
    for (const [account, namespace] of [
      ['isthmus-discovery', 'isthmus-system'],
      ['eastwest-gateway', 'bookinfo'],
    ] as const) {
      const issued = await ca.issue({ namespace, serviceAccount: account })
      mkdirSync(join(path, account))
      await writeCredential(join(path, account), { ...issued, bundlePem: ca.bundlePem })
    }
    mkdirSync(join(path, 'yaml'))
    writeFileSync(join(path, 'yaml', 'world.yaml'), yaml)
    const [admin, metrics] = [`127.0.0.1:${await freePort()}`, `127.0.0.1:${await freePort()}`]
    const args = [
      '--cluster',
      name,
      '--objects',
      join(path, 'yaml'),
      '--certs',
      join(path, 'isthmus-discovery'),
    ]
    const ports = {
      ads,
      'ads-plain': 'off',
      admin,
      metrics,
      health: ANY,
      link: ANY,
      'gateway-discovery': ads,
    }
    const flags = Object.entries(ports).flatMap(([flag, value]) => [`--${flag}`, value])
    const cluster = new Cluster(scope, [...args, ...flags], join(path, 'yaml'), { admin, metrics })
    await cluster.line(({ msg }) => msg === 'ready')
    return cluster
  }

  certs(account: string): string {
    return join(this.yaml, '..', account)
  }

  /** Hosts that this cluster imports, of any file that its controllers wrote. */
  async imports(): Promise<string[]> {
    const status = (await (await fetch(`http://${this.admin}/status`)).json()) as {
      imports: { host: string }[]
    }
    return status.imports.map(({ host }) => host.split('.')[0] ?? '').sort()
  }

  /** `isthmus link create` in this process, which takes no second to begin. */
  async create(options: Partial<Parameters<typeof runCreate>[0]> = {}) {
    const terminal = new TestTerminal()
    const code = await runCreate(
      { dir: [this.yaml], set: {}, admin: this.admin, ttl: '1h', ...options },
      terminal,
    )
    return { code, out: terminal.stdout, err: terminal.stderr }
  }

  async accept(token: string) {
    const terminal = new TestTerminal()
    const code = await runAccept(token, { dir: [this.yaml], set: {}, admin: this.admin }, terminal)
    return { code, out: terminal.stdout, err: terminal.stderr }
  }

  isthmus(...args: readonly string[]) {
    return isthmus(...args, '--dir', this.yaml, '--admin', this.admin)
  }
}

async function isthmus(...args: readonly string[]): Promise<{ code: number; out: string; err: string }> {
  const child = spawn(process.execPath, [MAIN, ...args], { stdio: ['ignore', 'pipe', 'pipe'] })
  const text = { out: '', err: '' }
  child.stdout.on('data', (chunk) => (text.out += chunk))
  child.stderr.on('data', (chunk) => (text.err += chunk))
  const [code] = (await once(child, 'close')) as [number]
  return { code, ...text }
}

const networks = (id: string) =>
  reachability([id], { 'cluster-1-network': 'cluster-2-network', 'cluster-2-network': 'cluster-1-network' })

function everyFile(path: string): string {
  return readdirSync(path, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => readFileSync(join(entry.parentPath, entry.name), 'utf8'))
    .join('\n')
}

t.test('create, accept, unlink: exports travel both ways through one port', async (t) => {
  const [door, adsPort] = [await freePort(), await freePort()]
  const first = await Cluster.start(
    t,
    'cluster-1',
    `127.0.0.1:${adsPort}`,
    service({ name: 'productpage', pods: ['10.0.1.10:8080'] }) +
      gateway('127.0.0.1', 'bookinfo', door) +
      workspace +
      setting() +
      networks('cluster-1'),
  )
  const second = await Cluster.start(
    t,
    'cluster-2',
    `127.0.0.1:${await freePort()}`,
    service({ name: 'reviews', pods: ['10.0.2.10:9080'] }) +
      gateway('203.0.113.20') +
      workspace +
      setting() +
      networks('cluster-2'),
  )
  const pod = new Pod(t, [
    'gateway',
    ...['--cluster', 'cluster-1', '--name', 'eastwest-gateway', '--namespace', 'bookinfo'],
    ...['--discovery', `127.0.0.1:${adsPort}`, '--certs', first.certs('eastwest-gateway')],
    ...['--run-dir', folder(t), '--workers', '1', '--bind', `127.0.0.1:${door}`],
    ...['--admin', ANY, '--health', ANY, '--metrics', ANY],
  ])
  await pod.ready('gateway')

  const created = await first.isthmus('link', 'create', '--for', 'cluster-2')
  t.equal(created.code, 0, created.err)
  const token = created.out.trim()
  const read = decodeToken(token)
  if (!read.ok) throw new Error(read.error)
  t.strictSame(read.value.linkAddresses, [`127.0.0.1:${door}`], 'by the one port')
  const kept = everyFile(first.yaml)
  t.match(kept, `link-token-${read.value.id}`)
  t.notOk(kept.includes(read.value.secret), 'only the hash is kept')
  // The name leads somewhere at the gateway once its workers have it.
  const accepted = await eventually(
    () => second.accept(token),
    ({ err }) => !/cannot be reached/.test(err),
  )
  t.strictSame([accepted.code, accepted.err], [0, ''])
  t.match(accepted.out, /secret\/peer-cluster-1 written\n.*are linked/)

  t.strictSame(
    await eventually(
      () => second.imports(),
      (hosts) => hosts.length > 0,
    ),
    ['productpage'],
  )
  t.strictSame(
    await eventually(
      () => first.imports(),
      (hosts) => hosts.length > 0,
    ),
    ['reviews'],
    'the dialler’s too',
  )
  const metrics = await (await fetch(`http://${second.metrics}/metrics`)).text()
  t.match(metrics, /^isthmus_discovery_peer_connected\{peer="cluster-1"\} 1$/m)
  t.match(
    metrics,
    /^isthmus_certificate_expiration_timestamp_seconds\{cluster="cluster-1",role="leaf",.*\} \d+$/m,
  )

  // As the user types it.
  const again = await second.isthmus('link', 'accept', token)
  t.equal(again.code, 1)
  t.match(again.err, /^isthmus link accept: the token was used by cluster-2 at [^\n]*\n$/)

  const gone = await first.isthmus('unlink', 'cluster-2')
  t.equal(gone.code, 0, gone.err)
  t.match(gone.out, /Secret\/isthmus-system\/peer-cluster-2 deleted/)
  t.match(gone.out, /cluster-2 loses 1 of cluster-1: productpage\.bookinfo\.svc\.cluster\.local/)
  t.match(gone.out, /cluster-1 loses 1 of cluster-2: reviews\.bookinfo\.svc\.cluster\.local/)
  t.strictSame(
    await eventually(
      () => first.imports(),
      (hosts) => hosts.length === 0,
    ),
    [],
  )
  t.strictSame(await second.imports(), ['productpage'], 'the other side keeps what it had, for its lease')
  t.match(await first.isthmus('unlink', 'cluster-2'), {
    code: 1,
    err: /^isthmus unlink: cluster-2 is not linked/,
  })
})

t.test('a token that is garbled, expired, or for another cluster is refused in one line', async (t) => {
  const ads = `127.0.0.1:${await freePort()}`
  const first = await Cluster.start(t, 'cluster-1', ads, networks('cluster-1'))
  const second = await Cluster.start(t, 'cluster-2', `127.0.0.1:${await freePort()}`, networks('cluster-2'))
  const none = await first.create()
  t.match(none, { code: 1, err: /^isthmus link create: no gateway has an address yet: [^\n]*\n$/ })
  const direct = { adsAddress: [ads], linkAddress: ['127.0.0.1:1'] }
  const make = async (options: Parameters<Cluster['create']>[0] = {}) => {
    const { code, out, err } = await first.create({ ...direct, ...options })
    t.equal(code, 0, err)
    return out.trim()
  }
  // Where it is spent is known once it is there: discovery listens while a token is outstanding.
  const good = decodeToken(await make())
  const { port } = await first.line(({ msg }) => /a link token is outstanding/.test(msg))
  if (!good.ok) throw new Error(good.error)
  const token = { ...good.value, linkAddresses: [`127.0.0.1:${port}`] }
  const text = encodeToken(token)
  const cases: [string, string, number, RegExp][] = [
    ['cut short', text.slice(0, -20), 64, /the token is garbled: copy it whole/],
    ['one letter is another', text.replace(/A/, 'B'), 64, /the token is garbled: copy it whole/],
    ['no token', 'hello', 64, /this is no token/],
    ['a later release', text.replace('-1.', '-2.'), 64, /of another release/],
    ['expired', encodeToken({ ...token, expiresMs: Date.now() - 1 }), 1, /the token expired at \d{4}-/],
    [
      'another cluster',
      await make({ for: 'cluster-3' }),
      1,
      /the token is for cluster-3, this cluster is cluster-2/,
    ],
    [
      'another cluster, not said',
      encodeToken({ ...token, for: '', secret: 'x'.repeat(43) }),
      1,
      /not known here/,
    ],
    [
      'nobody there',
      encodeToken({ ...token, linkAddresses: ['127.0.0.1:1'] }),
      1,
      /cluster-1 cannot be reached: .*ECONNREFUSED/,
    ],
  ]
  for (const [what, given, code, message] of cases) {
    const refused = await second.accept(given)
    t.equal(refused.code, code, what)
    t.match(refused.err, message, what)
    t.match(refused.err, /^isthmus link accept: [^\n]*\n$/, what)
  }
  t.match(await first.accept(text), {
    code: 1,
    err: /cluster-1 cannot be linked with itself/,
  })
  const wrongTtl = await first.create({ ...direct, ttl: '8d' })
  t.match(wrongTtl, { code: 64, err: /--ttl: 8d, at most 7d/ })
  // Somebody else answers in its place: the secret is not told.
  const other = await createCa({ trustDomain: 'cluster-1.local' })
  const posed = encodeToken({ ...token, side: { ...token.side, bundle: other.bundlePem } })
  t.match(await second.accept(posed), { code: 1, err: /cannot be reached/ })
  const before = everyFile(second.yaml)
  t.match(await second.accept(text), { code: 0 })
  t.not(everyFile(second.yaml), before)
})
