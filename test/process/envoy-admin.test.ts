import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { TYPE } from '../../src/xds/types.ts'
import { endpoints, gatewayListener, SNI } from '../proxy/support.ts'
import { echoes, World } from './gateway-world.ts'
import { eventually, freePort, getJson, type Pod } from './pod.ts'

/** The first line of base64 in a PEM: enough to know it by. */
function firstLine(pem: string): string {
  const line = pem.split('\n').find(({ length }) => length === 64)
  if (line === undefined) throw new Error(`no PEM: ${pem}`)
  return line
}

/** With the bodies of the resources as they are. */
function unpacked(snapshot: string): string {
  return snapshot.replaceAll(/"body":"([^"]*)"/g, (_, body: string) =>
    Buffer.from(body, 'base64').toString('latin1'),
  )
}

async function text(url: string, method = 'GET'): Promise<string> {
  return (await fetch(url, { method })).text()
}

async function live(pod: Pod): Promise<string> {
  const admin = await pod.url('admin')
  await eventually(
    () => text(`${admin}/ready`),
    (state) => state === 'LIVE\n',
  )
  return admin
}

t.test('the admin port answers as an Envoy does', async (t) => {
  const world = await World.create(t)
  const pod = world.start(t)
  const admin = await live(pod)
  const socket = await world.connect()
  t.equal(await echoes(socket, 'hello'), 'hello')

  await t.test('/clusters: lines for people, admin.v3.Clusters for programs', async (t) => {
    const address = `127.0.0.1:${world.target.port}`
    const lines = (await text(`${admin}/clusters`)).split('\n')
    for (const line of [
      'cx_active::1',
      'health_flags::healthy',
      'weight::1',
      'region::r1',
      'zone::z0',
      'priority::0',
    ])
      t.ok(lines.includes(`${SNI}::${address}::${line}`), line)
    const { body } = await getJson(`${admin}/clusters?format=json`)
    t.match(body, {
      cluster_statuses: [
        {
          name: SNI,
          host_statuses: [
            {
              address: { socket_address: { address: '127.0.0.1', port_value: world.target.port } },
              health_status: { eds_health_status: 'HEALTHY' },
              locality: { region: 'r1', zone: 'z0' },
            },
          ],
        },
      ],
    })
  })

  await t.test('/listeners, /certs, /server_info', async (t) => {
    t.equal(await text(`${admin}/listeners`), `eastwest::127.0.0.1:${world.port}\n`)
    t.match(await getJson(`${admin}/listeners?format=json`), {
      body: {
        listener_statuses: [
          {
            name: 'eastwest',
            local_address: { socket_address: { address: '127.0.0.1', port_value: world.port } },
          },
        ],
      },
    })
    const { body } = await getJson(`${admin}/certs`)
    const { certificates } = body as { certificates: Record<string, Record<string, unknown>[]>[] }
    t.match(certificates.flatMap(({ cert_chain }) => cert_chain)[0], {
      path: 'default',
      subject_alt_names: [{ uri: 'spiffe://cluster-1.example/ns/bookinfo/sa/gateway' }],
      days_until_expiration: '0',
      expiration_time: /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/,
    })
    t.match(certificates.flatMap(({ ca_cert }) => ca_cert)[0], {
      path: 'cluster-1.example: ROOTCA',
      days_until_expiration: /^\d+$/,
    })
    t.match(await getJson(`${admin}/server_info`), {
      body: { state: 'LIVE', node: { id: /^router~/ }, command_line_options: { concurrency: Number } },
    })
  })

  await t.test(
    '/config_dump: the sections of an Envoy, one list, one name, endpoints on demand',
    async (t) => {
      type Dump = { configs: Record<string, unknown>[] }
      const dump = async (query: string) => (await getJson(`${admin}/config_dump${query}`)).body as Dump
      const sections = ({ configs }: Dump) =>
        configs.map((config) => String(config['@type']).split('.').at(-1))
      const whole = ['BootstrapConfigDump', 'ClustersConfigDump', 'ListenersConfigDump', 'SecretsConfigDump']
      t.same(sections(await dump('')), whole)
      t.same(sections(await dump('?include_eds')), [...whole, 'EndpointsConfigDump'])
      const { configs } = await dump('?resource=dynamic_listeners')
      t.match(configs, [
        {
          '@type': 'type.googleapis.com/envoy.admin.v3.ListenersConfigDump.DynamicListener',
          name: 'eastwest',
          active_state: { listener: { name: 'eastwest', filter_chains: [{ name: 'terminate' }] } },
        },
      ])
      t.same((await dump('?resource=dynamic_listeners&name_regex=west')).configs, [], 'the whole name')
      t.equal((await dump('?resource=dynamic_active_secrets')).configs.length, 2)
      t.equal((await fetch(`${admin}/config_dump?mask=bootstrap`)).status, 400)
      t.equal((await fetch(`${admin}/config_dump?resource=everything`)).status, 400)
      const { discovery } = world.cluster
      discovery.put(TYPE.listener, {
        ...gatewayListener({ port: world.port }),
        body: Buffer.from('no'),
        version: 'x',
      })
      await pod.line(({ msg }) => msg.startsWith('refused: '))
      t.match((await dump('?resource=dynamic_listeners')).configs, [
        { active_state: { listener: { name: 'eastwest' } }, error_state: { details: /does not decode/ } },
      ])
    },
  )

  await t.test('/stats by the names of Envoy, in text, JSON and for Prometheus', async (t) => {
    const listener = `127.0.0.1_${world.port}`
    const stats = await text(`${admin}/stats`)
    for (const line of [
      `cluster.${SNI}.membership_healthy: 1`,
      `cluster.${SNI}.upstream_cx_active: 1`,
      `cluster.${SNI}.upstream_cx_total: 1`,
      `cluster.${SNI}.upstream_cx_connect_fail: 0`,
      `listener.${listener}.downstream_cx_total: 1`,
      `listener.${listener}.ssl.handshake: 1`,
      'rbac.allowed: 1',
      'control_plane.connected_state: 1',
      'listener_manager.lds.update_rejected: 1',
      'server.live: 1',
    ])
      t.match(stats, `${line}\n`)
    t.equal(await text(`${admin}/stats?filter=ssl.handshake`), `listener.${listener}.ssl.handshake: 1\n`)
    t.match(await text(`${admin}/stats?filter=(`), 'not a regular expression')
    t.match(
      await text(`${admin}/stats/prometheus`),
      `envoy_cluster_membership_healthy{envoy_cluster_name="${SNI}"} 1\n`,
    )
    t.match((await getJson(`${admin}/stats?format=json`)).body, { stats: [] })
  })

  await t.test('GET changes nothing, POST does', async (t) => {
    const health = await pod.url('health')
    const ready = async () => (await fetch(`${health}/readyz`)).status
    const changing = [
      '/drain_listeners',
      '/drain',
      '/replace',
      '/healthcheck/fail',
      '/quitquitquit',
      '/logging?level=debug',
    ]
    for (const path of changing) t.equal((await fetch(`${admin}${path}`)).status, 405, path)
    t.equal(await ready(), 200)
    t.equal(await text(`${admin}/ready`), 'LIVE\n')
    await text(`${admin}/healthcheck/fail`, 'POST')
    t.equal(await ready(), 503)
    t.equal(await text(`${admin}/ready`), 'DRAINING\n')
    await text(`${admin}/healthcheck/ok`, 'POST')
    t.equal(await ready(), 200)
    t.match(JSON.parse(await text(`${admin}/logging?level=warning`, 'POST')), { level: 'warn' })
    t.match(await text(`${admin}/logging?level=loud`, 'POST'), 'there is no level "loud"')
    t.match(await text(`${admin}/drain_listeners?skip_exit`, 'POST'), 'not supported')
    t.equal(await text(`${admin}/drain_listeners?graceful`, 'POST'), 'OK\n')
    await eventually(
      () => text(`${admin}/ready`),
      (state) => state === 'DRAINING\n',
    )
    t.equal(await echoes(socket, 'still open'), 'still open')
    socket.end()
  })

  await t.test('/quitquitquit ends the whole pod, in order', async (t) => {
    t.equal(await text(`${admin}/quitquitquit`, 'POST'), 'OK\n')
    t.same(await pod.exit, [0, null])
  })
})

/** What everybody may see: a private key in any of it is a leak. */
t.test('a private key is in no output, whatever is asked', async (t) => {
  const world = await World.create(t)
  const at = await freePort()
  const pod = world.start(t, '--log-level', 'trace', '--metrics', `127.0.0.1:${at}`)
  const admin = await live(pod)
  t.equal(await echoes(await world.connect(), 'hello'), 'hello')
  // A rotation, a refused resource and a broken key: what errors and changes print.
  const { discovery } = world.cluster
  discovery.put(TYPE.endpoints, { ...endpoints(SNI, []), body: Buffer.from('no') })
  await pod.line(({ msg }) => msg.startsWith('refused: '))
  const key = join(world.certs, 'tls.key')
  const keys = [readFileSync(key, 'utf8')]
  await world.cluster.certify('gateway')
  keys.push(readFileSync(key, 'utf8'))
  await eventually(
    () => text(`${admin}/config_dump?resource=dynamic_active_secrets&name_regex=default`),
    (dump) => dump.includes(firstLine(readFileSync(join(world.certs, 'tls.crt'), 'utf8'))),
  )
  // A key that is none, with what could be a key in it.
  writeFileSync(key, `${keys[1]}trailing`.replace('BEGIN PRIVATE', 'BEGIN BROKEN'))
  await eventually(
    () => text(`${admin}/status`),
    (status) => status.includes('tls.key'),
  )
  const secrets = keys.map(firstLine)
  const outputs = new Map<string, string>()
  const paths = (await text(`${admin}/`)).trim().split('\n')
  t.ok(paths.includes('/config_dump') && paths.includes('/status'), paths.join(' '))
  const queries = ['', '?format=json', '?include_eds', '?resource=dynamic_active_secrets']
  for (const path of paths)
    for (const query of queries) outputs.set(path + query, await text(`${admin}${path}${query}`))
  outputs.set('metrics', await text(`http://127.0.0.1:${at}/metrics`))
  const saved = await eventually(
    async () => readdirSync(world.runDirectory).filter((name) => name.startsWith('snapshot')),
    (names) => names.length > 0,
  )
  for (const name of saved) outputs.set(name, unpacked(readFileSync(join(world.runDirectory, name), 'utf8')))
  outputs.set('log', pod.lines.map((line) => JSON.stringify(line)).join('\n'))
  for (const [where, output] of outputs) {
    const leaked = secrets.find((secret) => output.includes(secret))
    t.notOk(leaked, `${where}: ${output.length} characters`)
    t.notOk(output.includes('PRIVATE KEY'), where)
  }
})
