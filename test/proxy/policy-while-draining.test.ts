// What is leaving anyway still answers to policy and trust: a drain lets connections finish, and nobody stay who may not.
import { once } from 'node:events'
import t from 'tap'
import { TYPE } from '../../src/xds/types.ts'
import {
  allow,
  backend,
  deny,
  gateway,
  gatewayListener,
  gone,
  listenerOf,
  terminateChain,
  trustSecret,
  uriPrincipal,
} from './support.ts'

const PEERS = uriPrincipal('prefix', 'spiffe://cluster-1.example/')
const anybody = allow({ anybody: [PEERS] })
const nobody = deny({ 'nobody at all': [PEERS] })

async function open() {
  const target = await backend()
  const it = await gateway(target, { rbac: [anybody], engine: { limits: { drainMs: 60_000 } } })
  const client = await it.connect()
  client.on('error', () => {})
  const says = async () => {
    client.write('x')
    await once(client, 'data')
  }
  await says()
  const stop = async () => {
    await it.proxy.engine.close()
    await target.close()
  }
  return { ...it, client, says, stop }
}

t.test('while the proxy drains, a DENY policy and trust that is taken back cut what is open', async (t) => {
  for (const change of ['policy', 'trust'] as const) {
    const { proxy, home, client, says, stop } = await open()
    const drained = proxy.engine.drain(60_000)
    await says()
    const closed = gone(client)
    if (change === 'policy') proxy.put(TYPE.listener, gatewayListener({ rbac: [nobody] }))
    else proxy.put(TYPE.secret, trustSecret([home]))
    await closed
    t.match((await proxy.lines(1))[0], {
      flag: change === 'policy' ? 'RBAC_DENIED' : 'ID_REFUSED',
      reason: /^after a change/,
    })
    await drained
    proxy.put(TYPE.listener, listenerOf([terminateChain({})], { name: 'another' }))
    t.strictSame(proxy.engine.listenerPhases(), { closed: 1 }, 'nothing opens any more')
    await stop()
  }
})

t.test('connections of a listener that was removed answer to trust', async (t) => {
  const { proxy, home, client, says, stop } = await open()
  proxy.engine.update(TYPE.listener, [], ['eastwest'])
  await says()
  const closed = gone(client)
  proxy.put(TYPE.secret, trustSecret([home]))
  await closed
  t.match((await proxy.lines(1))[0], { flag: 'ID_REFUSED', reason: /^after a change/ })
  await stop()
})

t.test('connections of a listener that moves answer to its new policy', async (t) => {
  const { proxy, client, says, stop } = await open()
  const moved = (rbac: ReturnType<typeof allow>[]) =>
    listenerOf([terminateChain({ rbac })], { host: '127.0.0.2' })
  proxy.put(TYPE.listener, moved([anybody]))
  await says()
  const closed = gone(client)
  proxy.put(TYPE.listener, moved([nobody]))
  await closed
  t.match((await proxy.lines(1))[0], { flag: 'RBAC_DENIED', reason: /^after a change/ })
  await stop()
})
