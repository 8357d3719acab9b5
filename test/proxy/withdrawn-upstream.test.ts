import { once } from 'node:events'
import t from 'tap'
import { TYPE } from '../../src/xds/types.ts'
import { dial } from './raw-client.ts'
import {
  backend,
  credentialSecret,
  endpoints,
  gateway,
  OUTBOUND,
  SNI,
  sidecarListener,
  TestProxy,
  trustSecret,
  upstream,
} from './support.ts'

t.test(
  'a connection whose upstream is withdrawn, its secrets with it, goes on until the drain deadline',
  async (t) => {
    const target = await backend()
    const far = await gateway(target)
    const id = 'spiffe://cluster-2.example/ns/eastwest/sa/gateway'
    const sidecar = new TestProxy({ limits: { drainMs: 500 } })
    sidecar.put(TYPE.secret, credentialSecret(far.client), trustSecret([far.home, far.peer]))
    sidecar.put(TYPE.cluster, upstream(OUTBOUND, { pins: [id], sni: SNI }))
    sidecar.put(TYPE.endpoints, endpoints(OUTBOUND, [{ port: far.port, tls: true }]))
    sidecar.put(TYPE.listener, sidecarListener({ protocol: 'tcp' }))
    const client = await dial(await sidecar.port('productpage_9080'))
    const says = async (text: string) => {
      client.write(text)
      return String((await once(client, 'data'))[0])
    }
    t.equal(await says('before'), 'before')
    sidecar.engine.update(TYPE.cluster, [], [OUTBOUND])
    sidecar.engine.update(TYPE.secret, [], ['default', 'ROOTCA'])
    t.equal(await says('after'), 'after')
    t.match((await sidecar.lines(1))[0], { flag: 'DRAIN', reason: /upstream .* was removed/ })
    client.destroy()
    await Promise.all([sidecar.engine.close(), far.proxy.engine.close()])
    await target.close()
  },
)
