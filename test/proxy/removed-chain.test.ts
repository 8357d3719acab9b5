// Connections of a filter chain that was removed drain; nobody stays whom every chain that is there would refuse.
import { once } from 'node:events'
import t from 'tap'
import { REACHABILITY_FILTER } from '../../src/resources/accept-types.ts'
import type { Filter } from '../../src/xds/gen/envoy/config/listener/v3/listener_components_pb.js'
import { TYPE } from '../../src/xds/types.ts'
import {
  allow,
  backend,
  deny,
  gateway,
  gone,
  listenerOf,
  passthroughChain,
  SNI,
  TLS_INSPECTOR,
  terminateChain,
  trustSecret,
  uriPrincipal,
} from './support.ts'

const PEERS = uriPrincipal('prefix', 'spiffe://cluster-1.example/')
const anybody = allow({ anybody: [PEERS] })
const nobody = deny({ 'nobody at all': [PEERS] })
const unreachable = allow({}, REACHABILITY_FILTER)

type Chain = Parameters<typeof listenerOf>[0][number]

/** A chain that takes the place of the first one, under another name. */
const other = (rbac: Filter[]) => ({ ...terminateChain({ rbac }), name: 'other' }) as Chain
/** One for another server name beside it. */
const beside = (rbac: Filter[]) =>
  ({
    ...terminateChain({ rbac }),
    name: 'beside',
    filterChainMatch: { transportProtocol: 'tls', serverNames: ['elsewhere.example'] },
  }) as Chain

/** A connection whose chain is removed: it drains, and works. */
async function leaving() {
  const target = await backend()
  const it = await gateway(target, { rbac: [anybody], engine: { limits: { drainMs: 60_000 } } })
  const client = await it.connect()
  client.on('error', () => {})
  const says = async () => {
    client.write('x')
    await once(client, 'data')
  }
  await says()
  const put = (...chains: Chain[]) =>
    it.proxy.put(TYPE.listener, listenerOf(chains, { listenerFilters: [TLS_INSPECTOR] }))
  const stop = async () => {
    client.destroy()
    await it.proxy.engine.close()
    await target.close()
  }
  return { ...it, client, says, put, stop }
}

t.test('what every chain denies is cut, and what one of them allows is not', async (t) => {
  const { proxy, client, says, put, stop } = await leaving()
  put(other([anybody]))
  await says()
  put(other([nobody]), beside([anybody]))
  await says()
  const closed = gone(client)
  put(other([nobody]), beside([nobody]))
  await closed
  t.match((await proxy.lines(1))[0], {
    flag: 'RBAC_DENIED',
    reason: /^after a change: policy "nobody at all" denies/,
  })
  await stop()
})

t.test('a policy that comes with the removal cuts', async (t) => {
  const { proxy, client, put, stop } = await leaving()
  const closed = gone(client)
  put(other([nobody]))
  await closed
  t.match((await proxy.lines(1))[0], { flag: 'RBAC_DENIED', reason: /^after a change/ })
  await stop()
})

t.test('trust that is taken back cuts, by the bundles that are in force now', async (t) => {
  const { proxy, home, client, says, put, stop } = await leaving()
  put(other([anybody]))
  await says()
  const closed = gone(client)
  proxy.put(TYPE.secret, trustSecret([home]))
  await closed
  t.match((await proxy.lines(1))[0], { flag: 'ID_REFUSED', reason: /^after a change/ })
  await stop()
})

t.test(
  'a reachability that is taken away as well, or no chain of its kind, leaves the drain as it is',
  async (t) => {
    const { proxy, says, put, stop } = await leaving()
    put(other([unreachable, anybody]))
    await says()
    put(passthroughChain({ serverNames: [SNI] }))
    await says()
    t.equal(proxy.log.length, 0)
    await stop()
  },
)
