import { spawn } from 'node:child_process'
import { once } from 'node:events'
import t from 'tap'
import { backend } from '../proxy/support.ts'
import { BootstrapWorld, type Yaml } from '../resources/bootstrap-world.ts'
import { call, start } from './config-world.ts'
import { echoes } from './gateway-world.ts'
import { eventually, freePort, getJson } from './pod.ts'

const ENVOY = process.env['ENVOY_BIN'] ?? ''

t.test(
  'the same file serves in a real Envoy, and both admin ports answer in the same shapes',
  { skip: ENVOY === '' && process.env['CI'] === undefined && 'ENVOY_BIN is not set' },
  async (t) => {
    const [world, target, ...ports] = await Promise.all([
      BootstrapWorld.create(t),
      backend(),
      freePort(),
      freePort(),
      freePort(),
      freePort(),
    ])
    t.teardown(() => target.close())
    const [ourPort = 0, envoyPort = 0, ourAdmin = 0, envoyAdmin = 0] = ports
    const fileOf = (port: number, admin: number) =>
      world.write(
        {
          ...withSecrets(world.gateway(port, target.port)),
          admin: { address: { socket_address: { address: '127.0.0.1', port_value: admin } } },
        },
        `envoy-${port}.yaml`,
      )
    const pod = start(t, fileOf(ourPort, ourAdmin))
    const envoy = spawn(
      ENVOY,
      ['-c', fileOf(envoyPort, envoyAdmin), '--disable-hot-restart', '--concurrency', '1', '-l', 'off'],
      {
        stdio: 'ignore',
      },
    )
    t.teardown(async () => {
      envoy.kill('SIGKILL')
      await once(envoy, 'exit')
    })
    const admins = [`http://127.0.0.1:${ourAdmin}`, `http://127.0.0.1:${envoyAdmin}`] as const
    await pod.ready('gateway')
    for (const admin of admins)
      await eventually(
        () =>
          fetch(`${admin}/ready`).then(
            (response) => response.text(),
            () => '',
          ),
        (state) => state === 'LIVE\n',
      )
    for (const port of [ourPort, envoyPort]) {
      const socket = await call(world, port)
      t.equal(await echoes(socket, 'hello'), 'hello')
      socket.destroy()
    }
    for (const path of [
      '/clusters?format=json',
      '/listeners?format=json',
      '/certs',
      '/config_dump',
      '/server_info',
    ]) {
      const [ours, envoys] = await Promise.all(
        admins.map(async (admin) => shapeOf((await getJson(admin + path)).body)),
      )
      const strange = [...(ours ?? [])].filter((one) => !envoys?.has(one) && !ONLY_OURS.test(one))
      t.same(strange, [], `${path}: every path of ours is one of Envoy's`)
      t.ok((ours?.size ?? 0) > 2, `${path}: ${ours?.size} paths`)
    }
    const lines = async (admin: string) =>
      new Set(
        (await (await fetch(`${admin}/clusters`)).text())
          .split('\n')
          .map((line) => line.replace(/::[^:]*$/, '')),
      )
    const [ours, envoys] = await Promise.all(admins.map(lines))
    t.same(
      [...(ours ?? [])].filter((line) => !envoys?.has(line)),
      [],
      "every line of ours in /clusters is one of Envoy's",
    )
    const names = async (admin: string, port: number) =>
      new Set(
        (await (await fetch(`${admin}/stats`)).text())
          .split('\n')
          .map((line) => (line.split(': ')[0] ?? '').replaceAll(String(port), 'PORT')),
      )
    const [ourNames, envoyNames] = [await names(admins[0], ourPort), await names(admins[1], envoyPort)]
    const unknown = [...ourNames].filter((name) => !envoyNames.has(name) && !envoyNames.has(`gw.${name}`))
    t.same(
      unknown,
      [
        'cluster_manager.cds.update_rejected',
        'control_plane.connected_state',
        'listener_manager.lds.update_rejected',
      ],
      'those that an Envoy has with dynamic resources only',
    )
  },
)

/** Where Envoy names a file, ours has what was in it. */
const ONLY_OURS = /\.inline_string$/

/** Every path in JSON, lists as `[]`. */
function shapeOf(json: unknown, path = ''): Set<string> {
  if (Array.isArray(json)) return new Set(json.flatMap((item) => [...shapeOf(item, `${path}[]`)]))
  if (typeof json !== 'object' || json === null) return new Set([path])
  return new Set(Object.entries(json).flatMap(([key, value]) => [...shapeOf(value, `${path}.${key}`)]))
}

/** The same with its certificates as static secrets: ours always has them so. */
function withSecrets(bootstrap: Yaml): Yaml {
  const { typed_config } = bootstrap.static_resources.listeners[0].filter_chains[0].transport_socket
  const { tls_certificates, validation_context } = typed_config.common_tls_context
  typed_config.common_tls_context = {
    tls_certificate_sds_secret_configs: [{ name: 'own' }],
    combined_validation_context: {
      default_validation_context: {},
      validation_context_sds_secret_config: { name: 'trust' },
    },
  }
  bootstrap.static_resources.secrets = [
    { name: 'own', tls_certificate: tls_certificates[0] },
    { name: 'trust', validation_context },
  ]
  return bootstrap
}
