// Endpoints that lead where no byte may go: to a gateway in clear, to this proxy itself.
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import t from 'tap'
import { TYPE } from '../../src/xds/types.ts'
import {
  backend,
  credentialSecret,
  endpoints,
  gateway,
  OUTBOUND,
  readAll,
  sidecarListener,
  TestProxy,
  trustSecret,
  upstream,
} from './support.ts'

const GATEWAY_ID = 'spiffe://cluster-2.example/ns/eastwest/sa/gateway'

async function dial(port: number, host = '127.0.0.1'): Promise<Socket> {
  const socket = connect({ host, port, allowHalfOpen: true })
  await once(socket, 'connect')
  return socket
}

t.test('an endpoint that wants mutual TLS is never spoken to in clear', async (t) => {
  // Its upstream has no TLS (yet, or any more): resources of two types do not change at one moment.
  const canary = await backend()
  const proxy = new TestProxy()
  proxy.put(TYPE.cluster, upstream(OUTBOUND))
  proxy.put(TYPE.endpoints, endpoints(OUTBOUND, [{ port: canary.port, tls: true }]))
  proxy.put(TYPE.listener, sidecarListener({ protocol: 'tcp' }))
  const port = await proxy.port('productpage_9080')
  const client = await dial(port)
  client.end('secret')
  t.equal((await readAll(client)).length, 0)
  t.match((await proxy.lines(1))[0], { flag: 'UF', reason: /wants mutual TLS/ })
  t.equal(canary.accepts, 0)
  await Promise.all([proxy.engine.close(), canary.close()])
})

t.test(
  'the upstream that brings TLS waits for its secrets; its endpoints are not called in clear meanwhile',
  async (t) => {
    const target = await backend()
    const world = await gateway(target)
    const canary = await backend()
    const proxy = new TestProxy()
    proxy.put(TYPE.cluster, upstream(OUTBOUND))
    proxy.put(TYPE.endpoints, endpoints(OUTBOUND, []))
    proxy.put(TYPE.listener, sidecarListener({ protocol: 'tcp' }))
    const port = await proxy.port('productpage_9080')
    // The first import: CDS, then EDS; ROOTCA is asked for only now.
    proxy.put(TYPE.cluster, upstream(OUTBOUND, { pins: [GATEWAY_ID] }))
    proxy.put(TYPE.endpoints, endpoints(OUTBOUND, [{ port: canary.port, tls: true }]))
    const early = await dial(port)
    early.end('secret')
    t.equal((await readAll(early)).length, 0)
    t.equal(canary.accepts, 0)
    proxy.put(TYPE.endpoints, endpoints(OUTBOUND, [{ port: world.port, tls: true }]))
    proxy.put(TYPE.secret, credentialSecret(world.client), trustSecret([world.home, world.peer]))
    const late = await dial(port)
    late.end('now')
    t.equal((await readAll(late)).toString(), 'now')
    // The last import goes: CDS first, EDS after it.
    proxy.put(TYPE.endpoints, endpoints(OUTBOUND, [{ port: canary.port, tls: true }]))
    proxy.put(TYPE.cluster, upstream(OUTBOUND))
    const last = await dial(port)
    last.end('secret')
    t.equal((await readAll(last)).length, 0)
    t.equal(canary.accepts, 0)
    await Promise.all([proxy.engine.close(), world.proxy.engine.close(), target.close(), canary.close()])
  },
)

t.test('an endpoint that is one of our own listeners ends there, and does not go round', async (t) => {
  const proxy = new TestProxy({ limits: { connections: 200 } })
  proxy.put(TYPE.cluster, upstream(OUTBOUND))
  proxy.put(TYPE.endpoints, endpoints(OUTBOUND, []))
  proxy.put(TYPE.listener, sidecarListener({ protocol: 'tcp' }))
  const port = await proxy.port('productpage_9080')
  proxy.put(TYPE.endpoints, endpoints(OUTBOUND, [{ port }]))
  const client = await dial(port)
  client.end('round')
  t.equal((await readAll(client)).length, 0)
  t.match((await proxy.lines(1))[0], { flag: 'UF', reason: /is a listener of this proxy/ })
  t.equal(proxy.engine.status().counters.accepted, 1)
  await proxy.engine.close()
})
