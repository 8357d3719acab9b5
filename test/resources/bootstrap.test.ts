import { execFileSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import t from 'tap'
import { stringify } from 'yaml'
import { readBootstrap } from '../../src/resources/bootstrap/bootstrap.ts'
import { readTextFile } from '../../src/resources/bootstrap/context.ts'
import { TYPE } from '../../src/xds/types.ts'
import { BootstrapWorld, UPSTREAM, type Yaml } from './bootstrap-world.ts'

const ENVOY = process.env['ENVOY_BIN'] ?? ''

function read(bootstrap: Yaml) {
  return readBootstrap(stringify(bootstrap), 'envoy.yaml', readTextFile)
}

/** `path: message` of every problem. */
function problems(bootstrap: Yaml): string[] {
  const { config } = read(bootstrap)
  return config.ok ? [] : config.error.map(({ field, message }) => `${field}: ${message}`)
}

function good(bootstrap: Yaml) {
  const { config } = read(bootstrap)
  if (!config.ok) throw new Error(JSON.stringify(config.error, null, 1))
  return config.value
}

const chainOf = (bootstrap: Yaml) => bootstrap.static_resources.listeners[0].filter_chains[0]
const tlsOf = (bootstrap: Yaml) => chainOf(bootstrap).transport_socket.typed_config.common_tls_context

t.test('a static bootstrap becomes resources; its certificates become secrets', async (t) => {
  const world = await BootstrapWorld.create(t)
  const bootstrap = world.gateway(15_443, 9080)
  bootstrap.admin = { address: { socket_address: { address: '127.0.0.1', port_value: 15_000 } } }
  const config = good(bootstrap)
  t.match(config.node, { id: 'router~127.0.0.1~gateway.bookinfo~x', cluster: 'gateway' })
  t.same(config.admin, { host: '127.0.0.1', port: 15_000 })
  t.same([...(config.resources.get(TYPE.listener)?.keys() ?? [])], ['eastwest'])
  t.same([...(config.resources.get(TYPE.cluster)?.keys() ?? [])], [UPSTREAM])
  const secrets = [...(config.resources.get(TYPE.secret)?.keys() ?? [])]
  t.ok(secrets.includes(world.file('gateway/tls.crt')), secrets.join(' '))
  t.equal(secrets.length, 2)
  t.same(
    read(bootstrap).files,
    ['envoy.yaml', ...['tls.crt', 'tls.key', 'ca.crt'].map((name) => world.file(`gateway/${name}`))],
    'everything that it was read from is to be watched',
  )
})

t.test('names may be in camel case, texts inline or in the environment', async (t) => {
  const world = await BootstrapWorld.create(t)
  const bootstrap = world.gateway(15_443, 9080)
  const text = (name: string) => readFileSync(world.file(`gateway/${name}`), 'utf8')
  process.env['ISTHMUS_TEST_KEY'] = text('tls.key')
  t.teardown(() => delete process.env['ISTHMUS_TEST_KEY'])
  tlsOf(bootstrap).tls_certificates = undefined
  tlsOf(bootstrap).tlsCertificates = [
    {
      certificateChain: { inlineString: text('tls.crt') },
      privateKey: { environmentVariable: 'ISTHMUS_TEST_KEY' },
    },
  ]
  good(bootstrap)
})

t.test('all mistakes at once, each with its path', async (t) => {
  const world = await BootstrapWorld.create(t)
  const bootstrap = world.gateway(15_443, 9080)
  bootstrap.layered_runtime = { layers: [{ name: 'static', static_layer: {} }] }
  bootstrap.stats_flush_intervall = '5s'
  chainOf(bootstrap).filters[2].typed_config.stat_prefixx = 'gw'
  chainOf(bootstrap).filters[0].typed_config.rules.policies.everyone.permissions = [{ url_path: {} }]
  tlsOf(bootstrap).tls_certificates[0].private_key.filename = world.file('nowhere')
  const [cluster] = bootstrap.static_resources.clusters
  cluster.connect_timeout = 2
  cluster.lb_policy = 'FASTEST'
  bootstrap.static_resources.clusters.push({ ...cluster, connect_timeout: '1s', lb_policy: 'RANDOM' })
  bootstrap.static_resources.listeners.push({
    ...bootstrap.static_resources.listeners[0],
    access_log: [{ name: 'x' }],
  })
  const chain = 'static_resources.listeners[0].filter_chains[0]'
  const found = problems(bootstrap)
  for (const expected of [
    'layered_runtime: not supported',
    'stats_flush_intervall: Bootstrap has no such field',
    `${chain}.filters[2].typed_config.stat_prefixx: TcpProxy has no such field`,
    `${chain}.filters[0].typed_config.rules.policies["everyone"].permissions[0].url_path: not supported`,
    `${chain}.transport_socket.typed_config.common_tls_context.tls_certificates[0].private_key.filename: `,
    'static_resources.clusters[0].connect_timeout: expected a Duration, found 2',
    'static_resources.clusters[0].lb_policy: expected one of ROUND_ROBIN, ',
    `static_resources.clusters[1].name: a second one is called ${UPSTREAM}`,
    'static_resources.listeners[1].access_log: not supported',
  ])
    t.ok(
      found.some((one) => one.startsWith(expected)),
      expected,
    )
})

t.test('what is no YAML, and what would be too much of it, is said', async (t) => {
  const of = (text: string) => readBootstrap(text, 'envoy.yaml', readTextFile).config
  t.match(of('node: {id: x'), { ok: false, error: [{ object: 'envoy.yaml' }] })
  t.match(of('node: {id: a}\nnode: {id: b}'), { ok: false, error: [{ message: /unique/ }] })
  t.match(of('[]'), { ok: false, error: [{ message: 'expected an object, found a list' }] })
  const bomb = `a: &a [1,2]\n${Array.from({ length: 20 }, (_, n) => `b${n}: &b${n} [*${n === 0 ? 'a' : `b${n - 1}`}, *${n === 0 ? 'a' : `b${n - 1}`}]`).join('\n')}`
  t.match(of(bomb), { ok: false, error: [{ message: /alias/i }] })
  t.match(of('{"node": {"id": "x"}, "node": 1}').ok, false)
})

t.test('a trusted_ca is taken where the names are of one trust domain, and means that domain', async (t) => {
  const world = await BootstrapWorld.create(t)
  const bootstrap = world.gateway(15_443, 9080)
  const trust = (...names: string[]) => {
    tlsOf(bootstrap).validation_context = {
      trusted_ca: { filename: world.file('gateway/ca.crt') },
      match_typed_subject_alt_names: names.map((prefix) => ({ san_type: 'URI', matcher: { prefix } })),
    }
  }
  trust('spiffe://cluster-1.example/ns/a/', 'spiffe://cluster-1.example/ns/b/')
  good(bootstrap)
  const refusal = /validation_context\.trusted_ca: expected a SPIFFECertValidatorConfig, or match_typed/
  for (const names of [[], ['spiffe://'], ['spiffe://cluster-1.example'], ['spiffe://a/', 'spiffe://b/']]) {
    trust(...names)
    t.match(problems(bootstrap).join('\n'), refusal, names.join(' '))
  }
})

t.test('secrets by name: static ones, and those of an SDS file', async (t) => {
  const world = await BootstrapWorld.create(t)
  const bootstrap = world.gateway(15_443, 9080)
  const tls = tlsOf(bootstrap)
  const secret = { name: 'own', tls_certificate: tls.tls_certificates[0] }
  tls.tls_certificates = undefined
  tls.tls_certificate_sds_secret_configs = [{ name: 'own' }]
  t.match(problems(bootstrap), [/the secret own is not here, and there is no ads_config/])
  bootstrap.static_resources.secrets = [secret]
  good(bootstrap)
  bootstrap.static_resources.secrets = undefined
  const type = 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret'
  writeFileSync(world.file('sds.yaml'), stringify({ resources: [{ '@type': type, ...secret }] }))
  tls.tls_certificate_sds_secret_configs[0].sds_config = {
    path_config_source: { path: world.file('sds.yaml') },
  }
  const config = good(bootstrap)
  t.ok(config.resources.get(TYPE.secret)?.has(`${world.file('sds.yaml')}#own`))
  t.ok(read(bootstrap).files.includes(world.file('sds.yaml')))
  tls.tls_certificate_sds_secret_configs[0].name = 'other'
  t.match(problems(bootstrap), [/has no secret called other/])
})

t.test('ADS: the stream is as safe as any upstream', async (t) => {
  const world = await BootstrapWorld.create(t)
  t.match(good(world.ads(15_012)).ads, {
    target: { host: '127.0.0.1', port: 15_012 },
    mode: 'delta',
    tls: { peerIds: [{ kind: 'exact' }], trustDomains: ['cluster-1.example'] },
    listeners: true,
    clusters: true,
  })
  t.equal(good(world.ads(15_012)).resources.get(TYPE.cluster)?.size, 0, 'discovery is no upstream')
  const sotw = world.ads(15_012)
  sotw.dynamic_resources.ads_config.api_type = 'GRPC'
  t.equal(good(sotw).ads?.mode, 'sotw')
  const clear = { transport_socket: undefined }
  t.equal(good(world.ads(15_010, clear)).ads?.tls, undefined)
  const far = world.ads(15_010, clear)
  const endpoint = far.static_resources.clusters[0].load_assignment.endpoints[0].lb_endpoints[0].endpoint
  endpoint.address.socket_address.address = '10.0.0.1'
  t.match(problems(far), [
    /clusters\[0\]\.transport_socket: expected one: discovery is asked in clear on this machine only/,
  ])
  const anybody = world.ads(15_012)
  delete anybody.static_resources.clusters[0].transport_socket.typed_config.common_tls_context
    .validation_context.match_typed_subject_alt_names
  t.match(problems(anybody).join('\n'), 'the server must be pinned')
  const nobody = world.ads(15_012)
  nobody.dynamic_resources.ads_config.grpc_services[0].envoy_grpc.cluster_name = 'nobody'
  t.match(problems(nobody), [/no static cluster is called nobody/])
  const alone = world.ads(15_012)
  alone.dynamic_resources.ads_config = undefined
  t.match(problems(alone).join('\n'), 'dynamic_resources.lds_config: expected an ads_config beside it')
})

t.test(
  'a real Envoy takes the same files',
  { skip: ENVOY === '' && process.env['CI'] === undefined && 'ENVOY_BIN is not set' },
  async (t) => {
    const world = await BootstrapWorld.create(t)
    for (const bootstrap of [world.gateway(15_443, 9080), world.ads(15_012)]) {
      const file = world.write(bootstrap)
      good(bootstrap)
      const output = execFileSync(ENVOY, ['--mode', 'validate', '-l', 'error', '-c', file], {
        encoding: 'utf8',
      })
      t.match(output, 'OK')
    }
  },
)
