// docs/ISTIO.md has a bootstrap for a proxy on istiod's loopback that adds the client certificate which istiod has not: it is run here as it
// stands there, with the addresses and files of this test.
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { TestCluster } from '../discovery/cluster.ts'
import { McpClient } from '../discovery/mcp-client.ts'
import { freePort, Pod } from './pod.ts'

t.test('the bootstrap in docs/ISTIO.md lets istiod ask over mutual TLS', async (t) => {
  const cluster = await TestCluster.start('cluster-1')
  t.teardown(() => cluster.stop())
  const folder = await mkdtemp(join(tmpdir(), 'isthmus-relay-'))
  t.teardown(() => rm(folder, { recursive: true, force: true }))
  const issued = await cluster.ca.issue({ namespace: 'istio-system', serviceAccount: 'istiod' })
  await writeFile(join(folder, 'tls.crt'), issued.certificatePem)
  await writeFile(join(folder, 'tls.key'), issued.privateKeyPem)
  await writeFile(join(folder, 'ca.crt'), cluster.ca.bundlePem)

  const page = await readFile(new URL('../../docs/ISTIO.md', import.meta.url), 'utf8')
  const [, documented] = /```yaml\n(static_resources:\n.*?)```/s.exec(page) ?? []
  if (documented === undefined) throw new Error('docs/ISTIO.md has no bootstrap')
  const port = await freePort()
  const file = join(folder, 'bootstrap.yaml')
  await writeFile(
    file,
    documented
      .replace('port_value: 15010', `port_value: ${port}`)
      .replace('isthmus-discovery.isthmus-system', 'localhost')
      .replace('port_value: 15012', `port_value: ${cluster.port}`)
      .replaceAll('/etc/certs', folder)
      .replace('TRUST-DOMAIN', 'cluster-1.local'),
  )
  const ephemeral = ['--admin', '--health', '--metrics'].flatMap((flag) => [flag, '127.0.0.1:0'])
  const pod = new Pod(t, [
    'sidecar',
    '--config',
    file,
    '--run-dir',
    join(folder, 'run'),
    '--workers',
    '1',
    ...ephemeral,
  ])
  await pod.ready('sidecar')
  const istiod = new McpClient(`127.0.0.1:${port}`)
  t.teardown(() => istiod.close())
  await istiod.until('synced', () => istiod.synced)
  t.match(cluster.discovery.clients(), [{ nodeId: /istiod-/ }])
})
