import { cpSync, rmSync } from 'node:fs'
import t from 'tap'
import { backend } from '../proxy/support.ts'
import { BootstrapWorld, type Yaml } from '../resources/bootstrap-world.ts'
import { call, start } from './config-world.ts'
import { echoes } from './gateway-world.ts'
import { eventually, freePort, getJson } from './pod.ts'

t.test(
  'a change of the file or of a certificate is in force within a second; a bad one is named and is not',
  async (t) => {
    const [world, target, port] = await Promise.all([BootstrapWorld.create(t), backend(), freePort()])
    t.teardown(() => target.close())
    const bootstrap = world.gateway(port, target.port)
    const pod = start(t, world.write(bootstrap))
    await pod.ready('gateway')
    const [cluster] = bootstrap.static_resources.clusters
    const name = 'outbound_.80_._.details.bookinfo.svc.cluster.local'
    bootstrap.static_resources.clusters.push({ ...cluster, name })
    t.equal((await call(world, port, name)).authorized, false, 'not known yet')
    world.write(bootstrap)
    await eventually(async () => (await call(world, port, name)).authorized, Boolean)

    chainOf(bootstrap).filters[2].typed_config.idle_timeouts = '1s'
    world.write(bootstrap)
    const refused = await pod.line(({ msg }) => msg.startsWith('configuration refused'))
    t.match(refused.msg, 'the last good one stays in force')
    t.match(refused.msg, 'filter_chains[0].filters[2].typed_config.idle_timeouts: TcpProxy has no such field')
    const admin = await pod.url('admin')
    t.match(await getJson(`${admin}/status`), { body: { refused: [/idle_timeouts/] } })
    t.equal(await echoes(await call(world, port), 'as before'), 'as before')
    chainOf(bootstrap).filters[2].typed_config.idle_timeouts = undefined
    world.write(bootstrap)
    await eventually(
      async () => (await getJson(`${admin}/status`)).body as { refused: string[] },
      ({ refused: all }) => all.length === 0,
    )

    const serial = async () => (await call(world, port)).getPeerCertificate().serialNumber
    const before = await serial()
    await world.certify('gateway')
    await eventually(serial, (now) => now !== before && now !== undefined)
    // Half a rotation: the key of another.
    await world.certify('other')
    cpSync(world.file('other/tls.key'), world.file('gateway/tls.key'))
    await pod.line(({ msg }) => msg.includes('the key does not belong to the certificate'))
    t.equal(await echoes(await call(world, port), 'still'), 'still')
    rmSync(world.file('envoy.yaml'))
    await pod.line(({ msg }) => msg.includes('envoy.yaml: cannot be read'))
    t.equal(await echoes(await call(world, port), 'even so'), 'even so')
  },
)

const chainOf = (bootstrap: Yaml) => bootstrap.static_resources.listeners[0].filter_chains[0]
