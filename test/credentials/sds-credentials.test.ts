// Our own credential over SDS, from a real gRPC server on a real unix socket; good, broken, slow, gone and lying ones.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { SdsCredentials, type SdsCredentialsOptions } from '../../src/credentials/sds-credentials.ts'
import { createCa } from '../../src/identity/ca.ts'
import { silentLogger } from '../../src/lib/log.ts'
import { formatProblem } from '../../src/lib/result.ts'
import * as m from '../identity/mint.ts'
import { credentialSecret, trustSecret } from '../proxy/support.ts'
import { rootSecret, SdsAgent } from './sds-agent.ts'

const ca = await createCa({ trustDomain: 'c1.example' })
const other = await createCa({ trustDomain: 'c2.example' })
const issue = (serviceAccount: string, more: object = {}) =>
  ca.issue({ namespace: 'bookinfo', serviceAccount, ...more })
const node = {
  id: 'router~1.2.3.4~gw.ns~ns',
  cluster: '',
  metadata: {},
  locality: { region: '', zone: '' },
  userAgentName: 'isthmus',
}

// Streams of the product do not keep a process alive; the test must, while it waits for them.
const alive = setInterval(() => {}, 1_000)
t.teardown(() => clearInterval(alive))

async function world(t: Test, options: Partial<SdsCredentialsOptions> = {}) {
  const folder = mkdtempSync(join(tmpdir(), 'isthmus-sds-'))
  const agent = new SdsAgent(join(folder, 's'))
  await agent.start()
  const source = new SdsCredentials({
    path: agent.path,
    certificateName: 'default',
    trustName: 'ROOTCA',
    node,
    logger: silentLogger,
    ...options,
  })
  t.teardown(() => {
    source.stop()
    agent.stop()
    rmSync(folder, { recursive: true, force: true })
  })
  await source.start()
  const who = () => source.current()?.credential.id.path
  /** Resolves once the source is ours by this name. */
  const becomes = async (name: string): Promise<void> => {
    while (who() !== `/ns/bookinfo/sa/${name}`)
      await new Promise<void>((resolve) => {
        const end = source.onChange(() => {
          end()
          resolve()
        })
      })
  }
  const said = () => source.problems().map(formatProblem).join('\n')
  /** For what no event tells. */
  const until = async (holds: () => boolean): Promise<void> => {
    while (!holds()) await new Promise((resolve) => setTimeout(resolve, 5))
  }
  return { agent, source, who, becomes, said, until }
}

t.test('certificate and trust from an agent as Istio has it, renewed as it renews them', async (t) => {
  const { agent, source, becomes, said } = await world(t)
  t.match(said(), /sds:unix:.*: default: no answer yet/)
  agent.put(credentialSecret(await issue('one')), rootSecret(ca.rootPem))
  await becomes('one')
  t.same(source.problems(), [])
  t.same(agent.asked.sort(), [['ROOTCA'], ['default']], 'a stream for each, as Envoy asks')
  t.equal(source.current()?.bundle.certificates.length, 2, 'the root, and the intermediate of our own chain')
  for (const name of ['two', 'three']) {
    const from = performance.now()
    agent.put(credentialSecret(await issue(name)))
    await becomes(name)
    t.ok(performance.now() - from < 1_000)
  }
  t.same(agent.nacks, [])
})

t.test('a rotation of the root: certificate and trust come one after the other', async (t) => {
  const { agent, source, becomes, said, until, who } = await world(t)
  agent.put(credentialSecret(await issue('one')), rootSecret(ca.rootPem))
  await becomes('one')
  const next = await createCa({ trustDomain: 'c1.example' })
  agent.put(credentialSecret(await next.issue({ namespace: 'bookinfo', serviceAccount: 'two' })))
  await until(() => agent.nacks.length === 1)
  t.match(said(), /ROOTCA: does not vouch for the certificate/)
  t.equal(who(), '/ns/bookinfo/sa/one', 'the last good one stays')
  agent.put(rootSecret(ca.rootPem + next.rootPem))
  await becomes('two')
  t.equal(source.current()?.bundle.roots.length, 2)
  t.same(source.problems(), [])
})

t.test(
  'what an agent sends and peers would not take keeps the last good one, and is a NACK that says why',
  async (t) => {
    const { agent, source, becomes, said, until, who } = await world(t)
    const good = await issue('good')
    agent.put(credentialSecret(good), rootSecret(ca.rootPem))
    await becomes('good')
    const stranger = await issue('stranger')
    const root = m.mintRoot('c1 root')
    const caLeaf = m.mintLeaf(root, 'spiffe://c1.example/ns/bookinfo/sa/ca', {
      basic: m.basicConstraints(true),
    })
    const expired = await issue('old', { nowMs: Date.now() - 7_200_000, lifetimeMs: 3_600_000 })
    const early = m.mintLeaf(
      root,
      'spiffe://c1.example/ns/bookinfo/sa/early',
      {},
      { notBefore: new Date(Date.now() + 60_000) },
    )
    const encrypted = '-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n'
    const rows: [string, Parameters<typeof agent.put>[0], RegExp][] = [
      [
        "another certificate's key",
        credentialSecret({ ...good, privateKeyPem: stranger.privateKeyPem }),
        /private_key: the key does not belong/,
      ],
      [
        'an encrypted key',
        credentialSecret({ ...good, privateKeyPem: encrypted }),
        /unencrypted private key/,
      ],
      ['an expired certificate', credentialSecret(expired), /expired at/],
      [
        'a CA certificate',
        credentialSecret({ certificatePem: caLeaf.pem, privateKeyPem: caLeaf.keyPem }),
        /is a CA certificate/,
      ],
      [
        'a certificate of tomorrow',
        credentialSecret({ certificatePem: early.pem, privateKeyPem: early.keyPem }),
        /not valid before/,
      ],
      ['no PEM', credentialSecret({ certificatePem: 'x', privateKeyPem: 'y' }), /holds no certificate/],
      [
        'trust in the place of a certificate',
        rootSecret(ca.rootPem, '', 'default'),
        /expected tls_certificate/,
      ],
      ['no trust', rootSecret('nothing'), /holds no certificate/],
      ['trust that is a leaf', rootSecret(good.certificatePem), /not a CA/],
    ]
    for (const [what, secret, expected] of rows) {
      const before = agent.nacks.length
      agent.put(secret)
      await until(() => agent.nacks.length > before)
      t.match(agent.nacks.at(-1), expected, what)
      t.match(said(), expected)
      t.equal(who(), '/ns/bookinfo/sa/good')
      t.notMatch(said() + agent.nacks.join(), /PRIVATE KEY-----\n\w/, 'no key in any message')
      agent.put(credentialSecret(good), rootSecret(ca.rootPem))
      await until(() => source.problems().length === 0)
    }
  },
)

t.test('an agent that goes away costs nothing; one that comes back is heard', async (t) => {
  const { agent, becomes, said, until, who } = await world(t)
  agent.put(credentialSecret(await issue('one')), rootSecret(ca.rootPem))
  await becomes('one')
  agent.stop()
  await until(() => said() !== '')
  t.match(said(), /sds:unix:.*(default|ROOTCA): /)
  t.equal(who(), '/ns/bookinfo/sa/one')
  agent.put(credentialSecret(await issue('two')))
  await agent.start()
  await becomes('two')
  await until(() => said() === '')
})

t.test('an agent that takes the question and says nothing is named', async (t) => {
  const { agent, said, until, source } = await world(t)
  agent.answers = false
  await until(() => agent.asked.length === 2)
  t.match(said(), /default: no answer yet[\s\S]*ROOTCA: no answer yet/)
  t.equal(source.current(), undefined)
})

t.test("SPIRE's form: SPIFFE ids as names, all bundles in one validator, CRLs with them", async (t) => {
  const svid = 'spiffe://c1.example/ns/bookinfo/sa/one'
  const { agent, source, becomes, until, said } = await world(t, { certificateName: svid, trustName: 'ALL' })
  agent.put(credentialSecret(await issue('one'), svid), trustSecret([ca, other], 'ALL'))
  await becomes('one')
  t.same(
    source.current()?.federated.map(({ trustDomain }) => trustDomain),
    ['c2.example'],
  )
  const theirs = m.mintRoot('their root')
  const leaf = m.mintLeaf(theirs, 'spiffe://c3.example/x')
  const crl = m.mintCrl({ issuer: theirs, revoked: [leaf] }).pem
  const third = { trustDomain: 'c3.example', bundlePem: theirs.pem }
  agent.put(trustSecret([ca, other, third], 'ALL', crl))
  await until(() => source.current()?.federated.length === 2)
  t.equal(source.current()?.federated[1]?.crls[0]?.crl.revoked.size, 1)
  agent.put(trustSecret([ca, third], 'ALL', m.mintCrl({ issuer: theirs, signer: m.ecKeys() }).pem))
  await until(() => said() !== '')
  t.match(said(), /ALL\.crl: CRL 1 bears the name of a CA that did not sign it/)
  t.equal(source.current()?.federated.length, 2)
})
