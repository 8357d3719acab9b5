// The real process with a signing CA: what it mints reaches the client that proved the id, and no output shows the key.
import { spawn } from 'node:child_process'
import { X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import t from 'tap'
import { readCertificate } from '../../src/credentials/sds-secret.ts'
import { createCa } from '../../src/identity/ca.ts'
import { saveCa, writeCredential } from '../../src/identity/ca-folder.ts'
import { XdsConnection } from '../../src/xds/connection.ts'
import { MutualTls } from '../../src/xds/mutual-tls.ts'
import { CLUSTER, rawType } from '../../src/xds/resource-types.ts'
import { TYPE, type XdsResource } from '../../src/xds/types.ts'

const MAIN = join(import.meta.dirname, '../../src/main.ts')
const PORTS = ['--ads', '--admin', '--health', '--metrics'].flatMap((flag) => [flag, '127.0.0.1:0'])
const ID = 'spiffe://cluster-1.local/ns/bookinfo/sa/sleep'

async function until<T>(what: string, look: () => T | undefined | Promise<T | undefined>): Promise<T> {
  for (const deadline = Date.now() + 20_000; Date.now() < deadline; await pause(20)) {
    const found = await look()
    if (found !== undefined) return found
  }
  throw new Error(`did not happen: ${what}`)
}

t.test(
  'a CA that comes later is taken, its SVIDs go to who proved the id, no output has a key',
  async (t) => {
    const folder = await mkdtemp(join(tmpdir(), 'isthmus-signing-'))
    t.teardown(() => rm(folder, { recursive: true, force: true }))
    const [yaml, certs, signing, mine] = ['yaml', 'certs', 'ca', 'sleep'].map((name) => join(folder, name))
    if (yaml === undefined || certs === undefined || signing === undefined || mine === undefined) return
    await Promise.all([yaml, signing].map((path) => mkdir(path)))
    const ca = await createCa({ trustDomain: 'cluster-1.local' })
    for (const [path, namespace, serviceAccount] of [
      [certs, 'isthmus-system', 'isthmus-discovery'],
      [mine, 'bookinfo', 'sleep'],
    ] as const)
      await writeCredential(path, {
        ...(await ca.issue({ namespace, serviceAccount })),
        bundlePem: ca.bundlePem,
      })
    const args = ['--cluster', 'cluster-1', '--objects', yaml, '--certs', certs, '--signing-ca', signing]
    const child = spawn(
      process.execPath,
      [MAIN, 'discovery', ...args, ...PORTS, '--ads-plain', 'off', '--log-level', 'trace'],
      { stdio: ['ignore', 'pipe', 'pipe'] },
    )
    t.teardown(() => child.kill('SIGKILL'))
    let output = ''
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (output += chunk))
    const ready = await until('ready', () => {
      const line = output.split('\n').find((one) => one.includes('"msg":"ready"'))
      return line === undefined ? undefined : JSON.parse(line)
    })
    const at = (name: string, path: string) =>
      fetch(`http://${ready[name].host}:${ready[name].port}${path}`).then((response) => response.text())
    t.match(await at('admin', '/status'), /trust-domain.*no such file/s, 'the missing CA is in the problems')

    const credential = new MutualTls({
      directory: mine,
      serverIds: ['spiffe://cluster-1.local/ns/isthmus-system/sa/isthmus-discovery'],
    })
    await credential.start()
    const target = { address: `127.0.0.1:${ready.ads.port}`, credential }
    const node = { id: 'sidecar~10.0.0.8~sleep-1.bookinfo~bookinfo.svc.cluster.local' }
    const [ads, sds] = [
      new XdsConnection({ target, node }),
      new XdsConnection({ target, node, service: 'sds' }),
    ]
    t.teardown(() => {
      for (const each of [ads, sds, credential]) each.stop()
    })
    const got: XdsResource[] = []
    ads.watch(CLUSTER, '*', () => {})
    for (const xds of [ads, sds])
      xds.watch(rawType(TYPE.secret), ['default'], ({ changed }) => void got.push(...changed.values()))
    await until('a try without a CA', async () =>
      /svids_failed_total [1-9]/.test(await at('metrics', '/metrics')) ? true : undefined,
    )
    await saveCa(ca, signing)
    await until('one over ADS, one over SDS', () => (got.length === 2 ? true : undefined))
    const keys = got.map((resource) => {
      const read = readCertificate(resource)
      if (!read.ok) throw new Error(read.error.message)
      t.equal(new X509Certificate(read.value.certificate).subjectAltName, `URI:${ID}`)
      return read.value.privateKey
    })
    t.not(keys[0], keys[1])
    const shown = [
      ...(await Promise.all(
        ['/status', '/clients', '/config_dump', '/exports'].map((path) => at('admin', path)),
      )),
      await at('metrics', '/metrics'),
      output,
    ].join('\n')
    t.match(shown, /isthmus_discovery_svids_minted_total 2/)
    t.notMatch(shown, /PRIVATE KEY/)
    for (const key of keys) {
      const [, middle = ''] = key.split('\n')
      t.ok(middle.length > 32)
      t.notOk(shown.includes(middle))
    }
    child.kill('SIGTERM')
    t.strictSame(await once(child, 'exit'), [0, null])
  },
)

t.test('a lifetime over an hour ends with 64 and names the flag', async (t) => {
  const args = ['--cluster', 'c', '--objects', '.', '--certs', '.', '--svid-lifetime', '2h']
  const child = spawn(process.execPath, [MAIN, 'discovery', ...args], { stdio: ['ignore', 'ignore', 'pipe'] })
  let said = ''
  child.stderr.on('data', (chunk) => (said += chunk))
  t.strictSame(await once(child, 'close'), [64, null])
  t.match(said, /--svid-lifetime: .*2h/)
})
