// What only we may open: the run folder with its sockets, and the admin port.
import { chmodSync, chownSync, mkdirSync, mkdtempSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { ProxyAdmin } from '../../src/cli/proxy-admin.ts'
import type { ProxyConfig } from '../../src/cli/proxy-options.ts'
import { CredentialFiles } from '../../src/identity/credential-files.ts'
import { silentLogger } from '../../src/lib/log.ts'
import { prepareRunDirectory, socketPaths } from '../../src/proxy/process/run-directory.ts'
import { Supervisor } from '../../src/proxy/process/supervisor.ts'

const folder = mkdtempSync(join(tmpdir(), 'isthmus-doors-'))
t.teardown(() => rmSync(folder, { recursive: true, force: true }))
const modeOf = (path: string): number => statSync(path).mode & 0o777

t.test('the run folder is ours alone, also where it was there before', async (t) => {
  const open = join(folder, 'open')
  mkdirSync(open)
  chmodSync(open, 0o777)
  t.match(prepareRunDirectory(open), { ok: true })
  t.equal(modeOf(open), 0o700)
  t.match(prepareRunDirectory(join(folder, 'new', 'deeper')), { ok: true })
  t.equal(modeOf(join(folder, 'new', 'deeper')), 0o700)
  if (process.getuid?.() !== 0) return
  const strangers = join(folder, 'strangers')
  mkdirSync(strangers)
  chownSync(strangers, 12_345, 12_345)
  t.match(prepareRunDirectory(strangers), { ok: false, error: /belongs to user 12345/ })
})

t.test('sockets are 0600; the admin port changes nothing by GET and listens to no web page', async (t) => {
  const runDirectory = join(folder, 'run')
  const certs = join(folder, 'certs')
  mkdirSync(certs)
  prepareRunDirectory(runDirectory)
  const logger = silentLogger.child({}, { level: 'info' })
  const node = {
    id: 'router~1.2.3.4~gw.ns~ns.svc.cluster.local',
    cluster: 'gw',
    metadata: {},
    locality: { region: '', zone: '' },
    userAgentName: 'isthmus',
  }
  const supervisor = new Supervisor({
    node,
    nameTable: false,
    discovery: '127.0.0.1:1',
    credentials: new CredentialFiles({ directory: certs, logger }),
    runDirectory,
    logger,
  })
  await supervisor.start()
  const any = { host: '127.0.0.1', port: 0 }
  const config = {
    kind: 'gateway',
    admin: any,
    health: any,
    metrics: any,
    drainMs: 0,
  } as unknown as ProxyConfig
  const admin = new ProxyAdmin({ supervisor, config, logger })
  t.teardown(() => Promise.all([admin.close(), supervisor.stop()]))
  for (const path of Object.values(socketPaths(runDirectory))) t.equal(modeOf(path), 0o600, path)
  const { admin: at, health } = await admin.start()
  const status = async (path: string, method = 'GET', headers = {}) =>
    (await fetch(`http://${path}`, { method, headers })).status
  t.equal(await status(`${at}/logging?level=silent`), 405)
  t.equal(logger.level, 'info')
  t.equal(await status(`${at}/drain`), 405)
  t.equal(await status(`${at}/logging?level=silent`, 'POST', { origin: 'http://evil.example' }), 403)
  t.equal(logger.level, 'info')
  t.equal(await status(`${health}/livez`), 200)
})
