// The command as an operator runs it: its own process, its exit codes, its words.
import { type SpawnSyncReturns, spawnSync } from 'node:child_process'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { parseSpiffeBundle } from '../../src/identity/spiffe-bundle.ts'
import { TrustBundle, TrustBundles } from '../../src/identity/trust-bundle.ts'
import { verifySvid } from '../../src/identity/verify-svid.ts'
import { firstDer } from './mint.ts'

const MAIN = fileURLToPath(new URL('../../src/main.ts', import.meta.url))
const certs = (...args: string[]): SpawnSyncReturns<string> =>
  spawnSync(process.execPath, [MAIN, 'certs', ...args], { encoding: 'utf8' })

t.test('init, issue, show, bundle', async (t) => {
  const folder = t.testdir()
  const [ca, out] = [join(folder, 'ca'), join(folder, 'sleep')]
  t.match(certs('init', '--trust-domain', 'c1.example', '--dir', ca), {
    status: 0,
    stdout: /c1\.example written/,
  })
  const issue = ['issue', '--ca', ca, '--namespace', 'bookinfo', '--service-account', 'sleep', '--out', out]
  t.match(certs(...issue, '--lifetime', '2h'), {
    status: 0,
    stdout: /spiffe:\/\/c1\.example\/ns\/bookinfo\/sa\/sleep/,
  })

  const read = (name: string) => readFileSync(join(out, name), 'utf8')
  const bundle = TrustBundle.parse('c1.example', read('ca.crt'), 'ca.crt')
  if (!bundle.ok) throw new Error(bundle.error.message)
  t.match(verifySvid(firstDer(read('tls.crt')), new TrustBundles([bundle.value]), Date.now()), { ok: true })

  const shown = certs('show', out).stdout
  t.match(shown, /SVID\n +id +spiffe:\/\/c1\.example\/ns\/bookinfo\/sa\/sleep/)
  t.match(shown, /1h 59m left/)
  t.match(shown, /root CA/)
  t.match(certs('show', join(ca, 'ca-cert.pem')).stdout, /intermediate CA[\s\S]*364d 23h left/)
  t.equal(certs('bundle', '--ca', ca).stdout, read('ca.crt'))

  const map = JSON.parse(certs('bundle-map', `c1.example=${join(out, 'ca.crt')}`).stdout)
  t.strictSame(Object.keys(map.trust_domains), ['c1.example'])
  const document = parseSpiffeBundle(JSON.stringify(map.trust_domains['c1.example']))
  const again = TrustBundle.parse('c1.example', document.ok ? document.value.pem : '', 'gateways.json')
  const fingerprints = ({ certificates }: TrustBundle) => certificates.map(({ fingerprint }) => fingerprint)
  t.strictSame(again.ok && fingerprints(again.value), fingerprints(bundle.value))
  t.match(certs('bundle-map', 'c1.example'), { status: 64, stderr: /expected TRUST-DOMAIN=FILE/ })
  t.match(certs('bundle-map', `c1.example=${join(out, 'tls.crt')}`), { status: 64, stderr: /tls.crt/ })

  t.match(certs('init', '--trust-domain', 'c1.example', '--dir', ca), {
    status: 64,
    stderr: /exists already/,
  })
  const copy = join(folder, 'copy')
  t.match(certs('import', '--cacerts', ca, '--out', copy, '--trust-domain', 'c1.example'), { status: 0 })
  t.equal(certs('bundle', '--ca', copy).stdout, read('ca.crt'))
})

t.test('--parent: several CAs under one root', async (t) => {
  const folder = t.testdir()
  const at = (name: string) => join(folder, name)
  const init = (name: string, ...more: string[]) =>
    certs('init', '--trust-domain', 'cluster.local', '--dir', at(name), ...more)
  t.match(init('root'), { status: 0 })
  for (const name of ['one', 'two']) {
    t.match(init(name, '--parent', at('root')), { status: 0, stdout: /its root is that of/ })
    t.equal(
      readFileSync(join(at(name), 'root-cert.pem'), 'utf8'),
      readFileSync(at('root/root-cert.pem'), 'utf8'),
    )
    t.notOk(existsSync(join(at(name), 'root-key.pem')), 'the root key stays where it is')
  }
  t.not(certs('bundle', '--ca', at('one')).stdout, certs('bundle', '--ca', at('two')).stdout)
  t.match(init('three', '--parent', at('one')), { status: 64, stderr: /one has no root-key\.pem/ })
})

t.test('wrong use ends with 64 and one clear line', async (t) => {
  const folder = t.testdir()
  const ca = join(folder, 'ca')
  certs('init', '--trust-domain', 'c1.example', '--dir', ca)
  const id = 'spiffe://c2.example/x'
  const rows: [args: string[], stderr: RegExp][] = [
    [['issue'], /--ca/],
    [['init', '--trust-domain', 'C1', '--dir', join(folder, 'x')], /--trust-domain "C1"/],
    [['issue', '--ca', ca, '--out', folder, '--id', id], /not in the trust domain/],
    [['issue', '--ca', ca, '--out', folder, '--namespace', 'a/b', '--service-account', 'c'], /plain names/],
    [
      ['import', '--trust-domain', 'c1', '--out', join(folder, 'x'), '--cacerts', folder],
      /ca-cert\.pem: no such file/,
    ],
  ]
  for (const [args, stderr] of rows) {
    const result = certs(...args)
    t.match(result, { status: 64, stderr }, args.join(' '))
    t.notMatch(result.stderr, /^\s+at /m, 'no stack')
  }
})

t.test('show fails on what it cannot read', async (t) => {
  const folder = t.testdir({ empty: {} })
  writeFileSync(join(folder, 'x.pem'), 'hello')
  t.match(certs('show', folder), { status: 1, stdout: /holds no certificate/ })
  t.match(certs('show', join(folder, 'empty')), { status: 1, stderr: /no \.pem or \.crt/ })
  t.match(certs('show', join(folder, 'missing')), { status: 1, stderr: /ENOENT/ })
})
