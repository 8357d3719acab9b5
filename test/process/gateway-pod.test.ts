import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { TYPE } from '../../src/xds/types.ts'
import { gatewayListener, SNI, upstream } from '../proxy/support.ts'
import { echoes, World } from './gateway-world.ts'
import { eventually, getJson } from './pod.ts'

const SERVICE = 'service="productpage.bookinfo.svc.cluster.local:9080",peer_trust_domain="cluster-1.example"'

t.test('a gateway comes up, serves, and says what it does', async (t) => {
  const world = await World.create(t)
  const pod = world.start(t)
  const ready = await pod.ready('gateway')
  t.match(ready, { listeners: [{ name: 'eastwest', address: `127.0.0.1:${world.port}` }] })
  t.match(world.cluster.discovery.nodes[0], {
    id: 'router~127.0.0.1~gateway.bookinfo~bookinfo.svc.cluster.local',
    metadata: { CLUSTER_ID: 'cluster-1', ISTHMUS_BIND: `127.0.0.1:${world.port}` },
  })
  const socket = await world.connect()
  t.equal(await echoes(socket, 'hello'), 'hello')
  const [admin, health, metrics] = await Promise.all([
    pod.url('admin'),
    pod.url('health'),
    pod.url('metrics'),
  ])
  // The worker dials the control socket beside the stream: it may serve before the supervisor hears of it.
  const readyz = await eventually(
    () => getJson(`${health}/readyz`),
    ({ status }) => status === 200,
  )
  t.same(readyz.body, [])
  t.match(await getJson(`${admin}/status`), {
    body: {
      kind: 'gateway',
      ready: true,
      discovery: { phase: 'connected', identifier: 'test-discovery' },
      source: 'discovery',
      worker: { state: 'serving', generation: 1, engine: { connections: { open: 1 } } },
    },
  })
  t.match(await getJson(`${admin}/status`), {
    body: {
      credential: { id: 'spiffe://cluster-1.example/ns/bookinfo/sa/gateway' },
      credentialProblems: [],
      workers: [{ state: 'serving', connections: { open: 1 } }],
    },
  })
  socket.end()
  t.match(await pod.line(({ msg }) => msg === 'access'), {
    flag: '-',
    host: 'productpage.bookinfo.svc.cluster.local',
  })
  const text = await (await fetch(`${metrics}/metrics`)).text()
  t.match(text, `isthmus_connections_total{${SERVICE},flag="-"} 1\n`)
  t.match(text, `isthmus_bytes_total{${SERVICE},direction="in"} 5\n`)
  t.match(text, `isthmus_upstream_endpoints{upstream="${SNI}",healthy="true"} 1\n`)
  t.match(text, 'isthmus_xds_connected 1\n')
  t.match(text, 'isthmus_handshake_seconds_bucket{le="+Inf"} 1\n')
  t.match(text, 'isthmus_upstream_connect_seconds_count 1\n')
  t.match(text, /isthmus_worker_loop_delay_seconds\{quantile="0.99"\} \d/)
  for (const use of ['leaf', 'trust'])
    t.match(
      text,
      new RegExp(`isthmus_certificate_not_after_timestamp_seconds\\{use="${use}",.*"cluster-1.example"`),
    )
  t.match(text, /isthmus_certificate_expiry_seconds 8\d{4}/)
  t.equal((await fetch(`${admin}/drain`)).status, 405)
})

t.test('no private key leaves the credential folder', async (t) => {
  const world = await World.create(t)
  const pod = world.start(t)
  await pod.ready('gateway')
  const dump = await (await fetch(`${await pod.url('admin')}/config_dump`)).text()
  t.match(dump, /"private_key": \{\s*"inline_string": "\[redacted\]"/)
  t.match(dump, 'type.googleapis.com/envoy.extensions.filters.network.sni_cluster.v3.SniCluster')
  t.notMatch(dump, 'PRIVATE KEY')
  await eventually(
    async () => readdirSync(world.runDirectory),
    (files) => files.includes('snapshot'),
  )
  const saved = readFileSync(join(world.runDirectory, 'snapshot'))
  // A header, an index by type, and the bodies as they are.
  const [, index = ''] = saved.toString('latin1').split('\n')
  const resources = Object.values(JSON.parse(index) as Record<string, [name: string][]>).flat()
  t.same(resources.map(([name]) => name).sort(), ['ROOTCA', 'eastwest', SNI, SNI].sort())
  t.notOk(saved.includes('PRIVATE KEY'))
})

t.test('what is missing is listed, and is there by itself once it comes', async (t) => {
  const world = await World.create(t)
  const certs = join(world.cluster.folder, 'late')
  const pod = world.start(t, '--certs', certs)
  const health = await pod.url('health')
  const { body, status } = (await getJson(`${health}/readyz`)) as { body: string[]; status: number }
  t.equal(status, 503)
  t.ok(body.includes('credentials'), body.join(' '))
  t.ok(
    body.some((one) => one.includes('tls.crt')),
    body.join(' '),
  )
  t.equal((await fetch(`${health}/livez`)).status, 200)
  await world.cluster.certify('late')
  await pod.ready('gateway')
  const after = await eventually(
    () => getJson(`${health}/readyz`),
    (one) => one.status === 200,
  )
  t.same(after.body, [])
})

t.test('a discovery server with another identity is not listened to', async (t) => {
  const world = await World.create(t)
  await world.cluster.discovery.stop()
  await world.cluster.discovery.start('somebody')
  const pod = world.start(t)
  const admin = await pod.url('admin')
  type Status = { body: { ready: boolean; discovery: { lastError: string } } }
  const { body } = await eventually(
    () => getJson(`${admin}/status`) as Promise<Status>,
    (status) => status.body.discovery.lastError !== '',
  )
  t.match(body, { ready: false })
  t.match(body.discovery.lastError, /isthmus-system\/sa\/somebody; expected .*isthmus-discovery/)
  t.same(world.cluster.discovery.nodes, [])
})

t.test('a resource that is refused is named; the others and its last good form stay', async (t) => {
  const world = await World.create(t)
  const pod = world.start(t)
  await pod.ready('gateway')
  const { discovery } = world.cluster
  discovery.put(TYPE.listener, gatewayListener({ port: world.port, handshakeTimeoutS: 4, name: 'eastwest' }))
  const broken = { ...upstream(SNI), body: Buffer.from('not a cluster'), version: 'broken' }
  discovery.put(TYPE.cluster, broken, upstream('outbound_.80_._.details.bookinfo.svc.cluster.local'))
  const line = await pod.line(({ msg }) => msg.startsWith('refused: '))
  t.match(line.msg, SNI)
  const admin = await pod.url('admin')
  t.match(await getJson(`${admin}/status`), { body: { nacks: 1, refused: [/productpage/] } })
  const [metrics] = [await (await fetch(`${await pod.url('metrics')}/metrics`)).text()]
  t.match(metrics, 'isthmus_xds_nacks_total{type="Cluster"} 1\n')
  t.equal(await echoes(await world.connect(), 'served all the same'), 'served all the same')
  await eventually(
    () => fetch(`${admin}/clusters`).then((response) => response.text()),
    (text) => text.includes('details.bookinfo'),
  )
})
