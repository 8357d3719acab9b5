import { spawnSync } from 'node:child_process'
import t from 'tap'
import { backend } from '../proxy/support.ts'
import { BootstrapWorld, UPSTREAM } from '../resources/bootstrap-world.ts'
import { call, start } from './config-world.ts'
import { echoes } from './gateway-world.ts'
import { eventually, freePort, getJson, MAIN } from './pod.ts'

t.test('a gateway out of one file: nothing else is needed, and nothing is left', async (t) => {
  const [world, target, port] = await Promise.all([BootstrapWorld.create(t), backend(), freePort()])
  t.teardown(() => target.close())
  const pod = start(t, world.write(world.gateway(port, target.port)))
  await pod.ready('gateway')
  const socket = await call(world, port)
  t.equal(await echoes(socket, 'hello'), 'hello')
  const health = await pod.url('health')
  await eventually(
    () => getJson(`${health}/readyz`),
    ({ status }) => status === 200,
  )
  t.match(await getJson(`${await pod.url('admin')}/status`), {
    body: { source: world.file('envoy.yaml'), refused: [], node: 'router~127.0.0.1~gateway.bookinfo~x' },
  })
  socket.end()
  t.match(await pod.line(({ msg }) => msg === 'access'), {
    rule: 'everyone',
    peerId: 'spiffe://cluster-1.example/ns/bookinfo/sa/sleep',
    upstream: UPSTREAM,
  })
  pod.process.kill('SIGTERM')
  t.same(await pod.exit, [0, null])
})

t.test(
  'a file that is not good ends the start with 64 and all its mistakes; --validate only says so',
  async (t) => {
    const world = await BootstrapWorld.create(t)
    const run = (...args: string[]) =>
      spawnSync(process.execPath, [MAIN, 'gateway', ...args], { encoding: 'utf8' })
    const good = world.write(world.gateway(1, 2))
    t.match(run('--config', good, '--validate'), { status: 0, stdout: `configuration '${good}' OK\n` })
    const bootstrap = world.gateway(1, 2)
    bootstrap.hot_restart_version = '1'
    bootstrap.static_resources.clusters[0].connect_timeout = '-1s'
    const bad = world.write(bootstrap, 'bad.yaml')
    for (const more of [[], ['--validate']]) {
      const { status, stderr } = run('--config', bad, ...more)
      t.equal(status, 64)
      t.match(stderr, `isthmus gateway: --config: ${bad}: hot_restart_version: Bootstrap has no such field\n`)
      t.match(
        stderr,
        'static_resources.clusters[0].connect_timeout: expected a duration that is not negative',
      )
    }
    t.match(run('--config', world.file('nowhere.yaml')), {
      status: 64,
      stderr: /nowhere.yaml: cannot be read/,
    })
  },
)
