import { existsSync } from 'node:fs'
import t from 'tap'
import { TYPE } from '../../src/xds/types.ts'
import { backend, endpoints, gatewayListener, SNI, trustSecret, upstream } from '../proxy/support.ts'
import { BootstrapWorld } from '../resources/bootstrap-world.ts'
import { call, start } from './config-world.ts'
import { echoes } from './gateway-world.ts'
import { eventually, freePort, TestDiscovery } from './pod.ts'

t.test(
  'the file names discovery: ADS over mutual TLS, Delta and SotW; a start without it serves what it sent',
  async (t) => {
    const [world, target, port] = await Promise.all([BootstrapWorld.create(t), backend(), freePort()])
    t.teardown(() => target.close())
    const discovery = new TestDiscovery(world.ca)
    t.teardown(() => discovery.stop())
    await discovery.start()
    const address = Number(discovery.address.split(':')[1])
    for (const api of ['GRPC', 'DELTA_GRPC']) {
      const bootstrap = world.ads(address)
      bootstrap.dynamic_resources.ads_config.api_type = api
      // Our own certificate stays in the file: discovery sends none.
      bootstrap.static_resources.secrets = [
        { name: 'default', tls_certificate: world.tls('gateway').tls_certificates[0] },
      ]
      discovery.put(TYPE.listener, gatewayListener({ port }))
      discovery.put(TYPE.cluster, upstream(SNI))
      discovery.put(TYPE.endpoints, endpoints(SNI, [{ port: target.port }]))
      discovery.put(TYPE.secret, trustSecret([world.ca]))
      const run = world.file(`run-${api}`)
      const pod = start(t, world.write(bootstrap), '--run-dir', run)
      await pod.ready('gateway')
      t.equal(await echoes(await call(world, port, SNI), api), api)
      t.match(discovery.nodes.at(-1), {
        id: 'router~127.0.0.1~gateway.bookinfo~x',
        metadata: { CLUSTER_ID: 'cluster-1' },
      })
      await eventually(async () => existsSync(`${run}/snapshot`), Boolean)
      pod.process.kill('SIGTERM')
      await pod.exit
    }
    await discovery.stop()
    const again = start(t, world.file('envoy.yaml'), '--run-dir', world.file('run-DELTA_GRPC'))
    await again.ready('gateway')
    t.equal(await echoes(await call(world, port, SNI), 'from the snapshot'), 'from the snapshot')
  },
)
