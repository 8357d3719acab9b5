// Our own credential minted by a discovery server, on real mutual TLS.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { DiscoveryCredentials } from '../../src/credentials/discovery-credentials.ts'
import { createCa } from '../../src/identity/ca.ts'
import { writeCredential } from '../../src/identity/ca-folder.ts'
import { silentLogger } from '../../src/lib/log.ts'
import { TestCluster } from '../discovery/cluster.ts'

const NODE = {
  id: 'sidecar~10.0.0.8~sleep-1.bookinfo~bookinfo.svc.cluster.local',
  cluster: '',
  metadata: {},
  locality: { region: '', zone: '' },
  userAgentName: 'isthmus',
}
const ID = 'spiffe://cluster-1.local/ns/bookinfo/sa/sleep'
const ca = await createCa({ trustDomain: 'cluster-1.local' })

async function start(t: { teardown(end: () => unknown): void }, lifetimeMs: number) {
  const directory = await mkdtemp(join(tmpdir(), 'isthmus-minted-'))
  t.teardown(() => rm(directory, { recursive: true, force: true }))
  const issued = await ca.issue({ namespace: 'bookinfo', serviceAccount: 'sleep' })
  await writeCredential(directory, { ...issued, bundlePem: ca.bundlePem })
  const cluster = await TestCluster.start('cluster-1', { ca, signing: true, svidLifetimeMs: lifetimeMs })
  t.teardown(() => cluster.stop())
  const address = `127.0.0.1:${cluster.port}`
  const credentials = new DiscoveryCredentials({ address, directory, node: NODE, logger: silentLogger })
  t.teardown(() => credentials.stop())
  const seen: string[] = []
  const waiting = new Set<() => void>()
  credentials.onChange(() => {
    seen.push(credentials.current()?.credential.certificatePem ?? '')
    for (const check of waiting) check()
  })
  const until = (holds: () => boolean) =>
    new Promise<void>((resolve, reject) => {
      // Also what keeps the process: the credentials' own timers do not.
      const late = setTimeout(() => reject(new Error(`saw ${seen.length} changes in 15 s`)), 15_000)
      const check = () => {
        if (!holds()) return
        clearTimeout(late)
        waiting.delete(check)
        resolve()
      }
      waiting.add(check)
      check()
    })
  await credentials.start()
  return { cluster, credentials, seen, until, files: issued.certificatePem }
}

t.test('from files at first, then minted and renewed on one stream, for the same id', async (t) => {
  const { cluster, credentials, seen, until, files } = await start(t, 4_000)
  t.equal(seen[0], files, 'who we are to begin with')
  await until(() => seen.length >= 3)
  t.equal(new Set(seen).size, 3)
  t.equal(credentials.current()?.credential.id.uri, ID)
  t.strictSame(credentials.problems(), [])
  const streams = cluster.discovery.clients().filter(({ nodeId }) => nodeId === NODE.id)
  t.equal(streams.length, 1)
  t.equal(cluster.discovery.counters.minted, 2, 'a new certificate asks for no further one')
  t.notMatch(JSON.stringify(credentials.current()), /PRIVATE/)
})

t.test('a minted one that ends without a successor gives way to the files', async (t) => {
  const { cluster, credentials, seen, until, files } = await start(t, 2_500)
  await until(() => seen.length >= 2)
  t.not(seen.at(-1), files)
  await cluster.process.stop()
  await until(() => seen.at(-1) === files)
  t.equal(credentials.current()?.credential.certificatePem, files)
  t.match(credentials.problems()[0]?.object, /^discovery:127\.0\.0\.1:/, 'and that discovery is away is said')
})
