// PROMISE: what discovery sends to an Envoy in the gateway's place keeps the gateway's promises as far as an Envoy can: whoever may not
// call causes no connect and hears nothing, whoever speaks first. With the real Envoy.
import { create, fromBinary, toBinary } from '@bufbuild/protobuf'
import { DurationSchema } from '@bufbuild/protobuf/wkt'
import tap from 'tap'
import { ListenerSchema } from '../../src/xds/gen/envoy/config/listener/v3/listener_pb.js'
import { TcpProxySchema } from '../../src/xds/gen/envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy_pb.js'
import { rawResource } from '../../src/xds/resource.ts'
import type { XdsResource } from '../../src/xds/types.ts'
import { dnsName, type Minted, mintLeaf, uriName } from '../identity/mint.ts'
import {
  BANNER,
  EnvoyGatewayWorld,
  idOf,
  leafOf,
  policyOf,
  resourcesOf,
  roots,
  serviceOf,
  sniOf,
} from './envoy-gateway-world.ts'
import { unavailable } from './target.ts'

const skip = unavailable('envoy') ?? false
const world = skip === false ? await EnvoyGatewayWorld.start() : (undefined as never as EnvoyGatewayWorld)
tap.teardown(() => world?.stop())

const SERVICES = {
  web: sniOf('web', 9080),
  cache: sniOf('cache', 6379),
  db: sniOf('db', 3306),
  stream: sniOf('stream', 7000),
}
type Service = keyof typeof SERVICES

/** Sent away, silent or not, without a word and without a connect behind. */
async function isRefused(
  t: Pick<typeof tap, 'equal'>,
  leaf: Minted | undefined,
  who: string,
  services = Object.keys(SERVICES) as Service[],
  silent = true,
): Promise<void> {
  const before = await world.connects()
  const said = await Promise.all(
    services.flatMap((service) =>
      (silent ? ['', 'ping'] : ['ping']).map(async (says) => {
        const text = await world.knock({ sni: SERVICES[service], leaf, says }).told(1)
        return text === '' ? [] : [`${service} told ${text}`]
      }),
    ),
  )
  t.equal(said.flat().join(), '', `${who} hears nothing`)
  t.equal(await world.connects(), before, `${who} causes no connect`)
}

tap.test('each kind of service is there for who may call', { skip }, async (t) => {
  for (const cluster of ['cluster-1', 'cluster-2'] as const) {
    const leaf = leafOf(cluster)
    for (const service of ['web', 'cache'] as const)
      t.equal(await world.knock({ sni: SERVICES[service], leaf, says: 'ping' }).told(4), 'ping', service)
    for (const service of ['db', 'stream'] as const)
      t.equal(await world.knock({ sni: SERVICES[service], leaf }).told(7), BANNER, `${service} greets`)
  }
})

tap.test(
  'strangers, and who is federated and may not call, hear nothing and connect to nothing',
  { skip },
  async (t) => {
    const before = await world.connects()
    await isRefused(t, undefined, 'who has no certificate')
    await isRefused(t, leafOf('cluster-4'), 'who is of an unknown CA')
    await isRefused(t, leafOf('cluster-3'), 'cluster-3')
    await isRefused(t, mintLeaf(roots['cluster-4'], idOf('cluster-2', 'sleep')), "another CA's cluster-2")
    t.equal(await world.connects(), before)
  },
)

tap.test('a name that leads nowhere finds no chain: no handshake, exposed or not', { skip }, async (t) => {
  const leaf = leafOf('cluster-2')
  for (const sni of [
    sniOf('hidden', 9080),
    sniOf('web', 9081),
    'web.bookinfo.example',
    'BlackHole',
    'nothing-is-exposed.invalid',
  ]) {
    const caller = world.knock({ sni, leaf, says: 'ping' })
    await caller.until(({ gone }) => gone)
    t.equal(caller.greeted, false, sni)
  }
})

tap.test('a CA cannot forge ids of another trust domain', { skip }, async (t) => {
  const forged = (...names: Uint8Array[]) => mintLeaf(roots['cluster-3'], '', { names })
  const [own, other] = [uriName(idOf('cluster-3', 'sleep')), uriName(idOf('cluster-2', 'sleep'))]
  const cases: [string, Minted][] = [
    ['its own id first', forged(own, other)],
    ["the other's id first", forged(other, own)],
    ["the other's id alone", forged(other)],
    ["the other's id as a DNS name", forged(own, dnsName(idOf('cluster-2', 'sleep')))],
    ['a DNS name alone', forged(dnsName(idOf('cluster-2', 'sleep')))],
  ]
  for (const [title, leaf] of cases) await isRefused(t, leaf, title)
})

tap.test('policy by ids is decided in the handshake, for whoever speaks first', { skip }, async (t) => {
  const principals = ['cluster-2.local/ns/client/sa/sleep', 'cluster-1.local/ns/client/sa/*']
  await world.also(policyOf('ids', { rules: [{ from: [{ source: { principals } }] }] }))
  const sleep = leafOf('cluster-2')
  t.equal(await world.knock({ sni: SERVICES.db, leaf: sleep }).told(7), BANNER)
  t.equal(await world.knock({ sni: SERVICES.web, leaf: sleep, says: 'ping' }).told(4), 'ping')
  t.equal(await world.knock({ sni: SERVICES.db, leaf: leafOf('cluster-1', 'any') }).told(7), BANNER)
  await isRefused(t, leafOf('cluster-2', 'other'), 'another service account')
  const names = [uriName(idOf('cluster-2', 'other')), uriName(idOf('cluster-1', 'sleep'))]
  const two = mintLeaf(roots['cluster-2'], '', { names })
  // It passes the handshake of a service where its CA might have said an id of its own: rbac sees two domains at the first byte.
  t.equal(await world.knock({ sni: SERVICES.web, leaf: two, says: 'ping' }).told(1), '')
})

tap.test(
  'one policy for one service: the others are not touched, and no other name is a way around it',
  { skip },
  async (t) => {
    const rule = (service: Service) => ({ when: [{ key: 'connection.sni', values: [SERVICES[service]] }] })
    const from = [{ source: { principals: ['cluster-2.local/ns/client/sa/sleep'] } }]
    await world.also(
      policyOf('db', { action: 'DENY', rules: [rule('db')] }) +
        policyOf('rest', { rules: [{ from, ...rule('stream') }, rule('web'), rule('db'), rule('cache')] }),
    )
    const other = leafOf('cluster-2', 'other')
    t.equal(await world.knock({ sni: SERVICES.web, leaf: other, says: 'ping' }).told(4), 'ping')
    t.equal(await world.knock({ sni: SERVICES.stream, leaf: leafOf('cluster-2') }).told(7), BANNER)
    for (const [sni, leaf] of [
      [SERVICES.stream, other],
      ['stream.bookinfo', other],
      [SERVICES.db, leafOf('cluster-2')],
      ['db.bookinfo:3306', leafOf('cluster-2')],
    ] as const)
      t.equal(await world.knock({ sni, leaf, says: 'ping' }).told(1), '', sni)
  },
)

tap.test(
  'policy that asks for more than ids waits for the first byte: no connect, and no banner',
  { skip },
  async (t) => {
    const denied = {
      from: [{ source: { ipBlocks: ['127.0.0.0/8'] } }],
      when: [{ key: 'connection.sni', values: [SERVICES.db, SERVICES.cache] }],
    }
    await world.also('')
    const before = await world.connects()
    await world.also(policyOf('addresses', { action: 'DENY', rules: [denied] }))
    const callers = [SERVICES.db, SERVICES.cache].map((sni) =>
      world.knock({ sni, leaf: leafOf('cluster-2'), says: 'ping' }),
    )
    for (const caller of callers) t.equal(await caller.told(1), '')
    await world.also('')
    t.equal(await world.connects(), before)
  },
)

tap.test('every name of a gRPC client leads to its service', { skip }, async (t) => {
  const leaf = leafOf('cluster-2')
  for (const host of ['web.bookinfo', 'web.bookinfo.svc', 'web.bookinfo.svc.cluster.local'])
    for (const sni of [host, `${host}:9080`, host.toUpperCase()])
      t.equal(await world.knock({ sni, leaf, says: 'ping', alpn: ['grpc-exp', 'h2'] }).told(4), 'ping', sni)
  t.equal(await world.knock({ sni: 'db.bookinfo:3306', leaf }).told(7), BANNER)
  await isRefused(t, leafOf('cluster-3'), 'cluster-3')
})

tap.test('passthrough: mesh TLS alone, and policy before the connect', { skip }, async (t) => {
  const mesh = sniOf('mesh', 9443)
  const spliced = async (sni: string, alpn: string) => {
    const { received } = { received: world.echo.bytes }
    const caller = world.knock({ sni, leaf: undefined, alpn: [alpn] })
    await Promise.race([
      caller.until(({ gone }) => gone),
      world.echo.until(() => world.echo.bytes > received),
    ])
    const came = world.echo.bytes > received
    caller.socket.destroy()
    return came
  }
  t.equal(await spliced(mesh, 'istio'), true, 'the ClientHello is at the workload')
  t.equal(await spliced('mesh.bookinfo:9443', 'istio-peer-exchange'), true)
  t.equal(await spliced(mesh, 'h2'), false, 'no mesh TLS')
  const denied = {
    from: [{ source: { ipBlocks: ['127.0.0.0/8'] } }],
    when: [{ key: 'connection.sni', values: [mesh] }],
  }
  await world.also(policyOf('addresses', { action: 'DENY', rules: [denied] }))
  const before = await world.connects()
  t.equal(await spliced(mesh, 'istio'), false)
  t.equal(await world.connects(), before)
  await world.also('')
})

tap.test(
  'a service more, or another policy of one, drains no connection of the others',
  { skip },
  async (t) => {
    const draining = () => world.stat('listener_manager.total_filter_chains_draining')
    await world.also('')
    const caller = world.knock({ sni: SERVICES.web, leaf: leafOf('cluster-2'), says: 'ping' })
    await caller.until(({ text }) => text === 'ping')
    const before = await draining()
    const more = serviceOf('more', { name: 'http', port: 9080 }, [world.echo.port])
    await world.also(more)
    // The test's own stamp is in the first chain, which so is another one each time.
    t.equal((await draining()) - before, 1)
    t.equal(
      await world.knock({ sni: sniOf('more', 9080), leaf: leafOf('cluster-2'), says: 'ping' }).told(4),
      'ping',
    )
    caller.socket.write('pong')
    await caller.until(({ text, gone }) => text === 'pingpong' || gone)
    t.equal(caller.text, 'pingpong')
    caller.socket.destroy()
  },
)

tap.test('connections end: Envoy runs the limits that it was sent', { skip }, async (t) => {
  const { configs } = (await world.target.get('/config_dump?resource=dynamic_listeners')) as {
    configs: {
      active_state: {
        listener: { filter_chains: { filters: { typed_config: Record<string, unknown> }[] }[] }
      }
    }[]
  }
  const chains = configs.flatMap(({ active_state }) => active_state.listener.filter_chains)
  t.ok(chains.length >= 5)
  for (const { filters } of chains) {
    t.match(filters.at(-1)?.typed_config, {
      max_downstream_connection_duration: '1800s',
      max_downstream_connection_duration_jitter_percentage: { value: 20 },
      idle_timeout: '600s',
    })
  }
})

tap.test(
  'a caller that talks, one that is silent and denied, and one of a server that speaks first: all end in time',
  { skip },
  async (t) => {
    const denied = {
      from: [{ source: { ipBlocks: ['127.0.0.0/8'] } }],
      when: [{ key: 'connection.sni', values: [SERVICES.cache] }],
    }
    const resources = resourcesOf(world.yaml + policyOf('addresses', { action: 'DENY', rules: [denied] }))
    const leaf = leafOf('cluster-2')
    const ends = async (limits: Parameters<typeof shortened>[1]) => {
      await world.target.update({
        ...resources,
        listeners: resources.listeners.map((each) => shortened(each, limits)),
      })
      const callers = [
        world.knock({ sni: SERVICES.cache, leaf }),
        world.knock({ sni: SERVICES.web, leaf, says: 'ping' }),
        world.knock({ sni: SERVICES.db, leaf }),
      ]
      for (const caller of callers) await caller.until(({ gone }) => gone)
      return callers.map(({ text }) => text)
    }
    t.strictSame(await ends({ idleMs: 200 }), ['', 'ping', BANNER])
    t.strictSame(await ends({ lifeMs: 200 }), ['', 'ping', BANNER])
    await world.also('')
  },
)

/** The same listener with limits that a test can wait for. */
function shortened(
  listener: XdsResource,
  { idleMs, lifeMs }: { readonly idleMs?: number; readonly lifeMs?: number },
): XdsResource {
  const message = fromBinary(ListenerSchema, listener.body)
  for (const { filters } of message.filterChains) {
    const last = filters.at(-1)?.configType
    if (last?.case !== 'typedConfig') continue
    const proxy = fromBinary(TcpProxySchema, last.value.value)
    if (idleMs !== undefined) proxy.idleTimeout = create(DurationSchema, { nanos: idleMs * 1e6 })
    if (lifeMs !== undefined)
      proxy.maxDownstreamConnectionDuration = create(DurationSchema, { nanos: lifeMs * 1e6 })
    last.value.value = toBinary(TcpProxySchema, proxy)
  }
  return rawResource(listener.name, listener.anyTypeUrl, toBinary(ListenerSchema, message))
}

tap.test('an endpoint that cannot be connected to is left out', { skip }, async (t) => {
  const refusing = 1
  await world.also(serviceOf('half', { name: 'http', port: 9080 }, [refusing, world.echo.port]))
  const sni = sniOf('half', 9080)
  const call = () => world.knock({ sni, leaf: leafOf('cluster-2'), says: 'ping' }).told(4)
  const ejections = () =>
    world.stat(`cluster.${sni}.outlier_detection.ejections_enforced_consecutive_local_origin_failure`)
  // A retry of Envoy's may take the same endpoint again, so that a call may fail before it is known.
  for (let i = 0; i < 100 && (await ejections()) === 0; i += 1) await call()
  t.equal(await ejections(), 1)
  for (let i = 0; i < 8; i += 1) t.equal(await call(), 'ping')
})

tap.test('a changed cluster has its endpoints at once: nothing waits for a time-out', { skip }, async (t) => {
  const v2 = serviceOf('web', { name: 'http-web', port: 9080 }, [world.echo.port], {
    annotations: { 'isthmus.io/proxy-protocol': 'v2' },
  })
  const plain = serviceOf('web', { name: 'http-web', port: 9080 }, [world.echo.port])
  await world.target.update(resourcesOf(world.yaml.replace(plain, v2)))
  const caller = world.knock({ sni: SERVICES.web, leaf: leafOf('cluster-2'), says: 'ping' })
  await caller.until(({ text, gone }) => gone || text.includes('ping'))
  const header = await caller.told(0)
  t.match(header, idOf('cluster-2', 'sleep'), 'the service is told of the caller')
  t.match(header, SERVICES.web)
  await world.also('')
  t.equal(await world.stat(`cluster.${SERVICES.web}.init_fetch_timeout`), 0)
})
