// What a change of policy does to connections that are open, and to those that come.
import { once } from 'node:events'
import t from 'tap'
import { REACHABILITY_FILTER } from '../../src/resources/accept-types.ts'
import type { Filter } from '../../src/xds/gen/envoy/config/listener/v3/listener_components_pb.js'
import { RBAC_Action } from '../../src/xds/gen/envoy/config/rbac/v3/rbac_pb.js'
import { TYPE } from '../../src/xds/types.ts'
import {
  allow,
  backend,
  deny,
  gateway,
  gatewayListener,
  gone,
  rbacFilter,
  readAll,
  rulesOf,
  uriPrincipal,
  type World,
} from './support.ts'

const PEERS = uriPrincipal('prefix', 'spiffe://cluster-1.example/')
const SLEEP = uriPrincipal('exact', 'spiffe://cluster-1.example/ns/bookinfo/sa/sleep')
const reachable = allow({ 'networkReachability["n1"] lists "n2"': [PEERS] }, REACHABILITY_FILTER)
const unreachable = allow({}, REACHABILITY_FILTER)
const anybody = allow({ anybody: [PEERS] })

async function world(drainMs: number, rbac: Filter[]) {
  const target = await backend()
  const world = await gateway(target, { rbac, engine: { limits: { drainMs } } })
  const put = (filters: Filter[]) => world.proxy.put(TYPE.listener, gatewayListener({ rbac: filters }))
  const stop = async () => {
    await world.proxy.engine.close()
    await target.close()
  }
  return { target, world, put, stop }
}

async function open(world: World) {
  const client = await world.connect()
  client.on('error', () => {})
  await says(client)
  return client
}

/** One byte there and back. */
async function says(client: Awaited<ReturnType<typeof open>>): Promise<void> {
  client.write('x')
  await once(client, 'data')
}

t.test('a DENY policy cuts open connections within a second, and names itself', async (t) => {
  const { world: it, put, stop } = await world(60_000, [reachable, anybody])
  const client = await open(it)
  const closed = gone(client)
  const began = Date.now()
  put([reachable, deny({ 'no sleeping': [SLEEP] }), anybody])
  await closed
  t.ok(Date.now() - began < 1_000)
  t.match((await it.proxy.lines(1))[0], {
    flag: 'RBAC_DENIED',
    reason: 'after a change: policy "no sleeping" denies spiffe://cluster-1.example/ns/bookinfo/sa/sleep',
  })
  await stop()
})

t.test(
  'a reachability that was taken away refuses new connections at once and drains open ones',
  async (t) => {
    const { target, world: it, put, stop } = await world(400, [reachable, anybody])
    const client = await open(it)
    const closed = gone(client)
    put([unreachable, anybody])
    await says(client)
    const accepts = target.accepts
    t.equal((await readAll(it.open().on('error', () => {}))).length, 0)
    t.match((await it.proxy.lines(1))[0], { flag: 'RBAC_DENIED', reason: /^no policy allows/ })
    t.equal(target.accepts, accepts, 'no connect upstream')
    await says(client)
    // Another change meanwhile does not begin the time anew.
    put([
      unreachable,
      anybody,
      deny({ 'someone else': [uriPrincipal('exact', 'spiffe://cluster-1.example/x')] }),
    ])
    await closed
    t.match((await it.proxy.lines(2))[1], {
      flag: 'DRAIN',
      reason: /^after a change 400 ms ago: no policy allows spiffe:.*sleep/,
    })
    await stop()
  },
)

t.test('who is also denied for himself is cut, not drained', async (t) => {
  const { world: it, put, stop } = await world(60_000, [reachable, anybody])
  const client = await open(it)
  const closed = gone(client)
  put([unreachable, allow({ 'others only': [uriPrincipal('exact', 'spiffe://cluster-1.example/x')] })])
  await closed
  t.match((await it.proxy.lines(1))[0], { flag: 'RBAC_DENIED', reason: /^after a change/ })
  await stop()
})

t.test('a draining connection is cut as soon as policy denies it', async (t) => {
  const { world: it, put, stop } = await world(60_000, [reachable, anybody])
  const client = await open(it)
  put([unreachable, anybody])
  await says(client)
  const closed = gone(client)
  put([unreachable, anybody, deny({ out: [SLEEP] })])
  await closed
  t.match((await it.proxy.lines(1))[0], { flag: 'RBAC_DENIED', reason: /policy "out" denies/ })
  await stop()
})

t.test('a reachability that comes back before the deadline costs nothing', async (t) => {
  const { world: it, put, stop } = await world(300, [reachable, anybody])
  const kept = await open(it)
  put([unreachable, anybody])
  put([reachable, anybody])
  await new Promise<void>((resolve) => setTimeout(resolve, 400))
  await says(kept)
  t.equal(it.proxy.log.length, 0, 'the time is over and it is still there')
  kept.destroy()
  await stop()
})

t.test('shadow rules decide nothing, are logged and counted', async (t) => {
  const shadow = (name: string, who = SLEEP) =>
    rbacFilter({ shadowRules: rulesOf(RBAC_Action.DENY, { [name]: [who] }) }, 'shadow')
  const { world: it, put, stop } = await world(60_000, [anybody, shadow('would deny')])
  const client = await open(it)
  put([anybody, shadow('would deny still')])
  await says(client)
  client.destroy()
  t.match((await it.proxy.lines(1))[0], { rule: 'anybody', shadowRule: 'denied: would deny', flag: /-|DC/ })
  put([anybody, shadow('not him', uriPrincipal('exact', 'spiffe://cluster-1.example/x'))])
  ;(await open(it)).destroy()
  t.match((await it.proxy.lines(2))[1], { shadowRule: 'allowed' })
  t.match(it.proxy.engine.status().counters, { shadowAllowed: 1, shadowDenied: 1 })
  await stop()
})
