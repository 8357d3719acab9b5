// Passthrough and the PROXY protocol downstream, by our engine on each runtime and by Envoy, with the same resources.
import { createHash, randomBytes } from 'node:crypto'
import { create } from '@bufbuild/protobuf'
import t from 'tap'
import { createCa } from '../../src/identity/ca.ts'
import { PrincipalSchema } from '../../src/xds/gen/envoy/config/rbac/v3/rbac_pb.js'
import { ProxyProtocolSchema } from '../../src/xds/gen/envoy/extensions/filters/listener/proxy_protocol/v3/proxy_protocol_pb.js'
import { dial, helloOf } from '../proxy/raw-client.ts'
import {
  allow,
  backend,
  credentialSecret,
  endpoints,
  listenerOf,
  passthroughChain,
  readAll,
  SNI,
  TLS_INSPECTOR,
  terminateChain,
  trustSecret,
  typed,
  upstream,
} from '../proxy/support.ts'
import { EngineTarget } from './engine-target.ts'
import { EnvoyTarget } from './envoy-target.ts'
import { type Resources, type Target, type TargetKind, unavailable } from './target.ts'

const CLIENT = '203.0.113.9'
/** 203.0.113.9:4711 → 198.51.100.1:443. */
const PROXY_V2 = Buffer.from('0d0a0d0a000d0a515549540a2111000ccb007109c6336401126701bb', 'hex')
const PROXY_V1 = Buffer.from('PROXY TCP4 203.0.113.9 198.51.100.1 4711 443\r\n')
const PROXY_FILTER = {
  name: 'envoy.filters.listener.proxy_protocol',
  configType: typed(ProxyProtocolSchema, create(ProxyProtocolSchema)),
}
const clientOnly = allow({
  client: [
    create(PrincipalSchema, {
      identifier: { case: 'remoteIp', value: { addressPrefix: CLIENT, prefixLen: 32 } },
    }),
  ],
})

const [home, peer] = await Promise.all([
  createCa({ trustDomain: 'cluster-2.example' }),
  createCa({ trustDomain: 'cluster-1.example' }),
])
const identity = await home.issue({ namespace: 'eastwest', serviceAccount: 'gateway' })

async function start(kind: TargetKind, resources: Resources): Promise<Target> {
  if (kind === 'envoy') return EnvoyTarget.start(resources)
  const target = new EngineTarget(kind)
  await target.update(resources)
  return target
}

const sha = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex')

for (const kind of ['node', 'bun', 'envoy'] as const) {
  t.test(`passthrough and PROXY on ${kind}`, { skip: unavailable(kind) ?? false }, async (t) => {
    const target = await backend()
    t.teardown(() => target.close())
    const chains = (filters: (typeof clientOnly)[]) => [
      terminateChain(),
      passthroughChain({ serverNames: [SNI], cluster: SNI, filters }),
    ]
    const proxy = await start(kind, {
      listeners: [
        listenerOf(chains([]), { listenerFilters: [TLS_INSPECTOR] }),
        listenerOf(chains([clientOnly]), {
          name: 'behind',
          listenerFilters: [PROXY_FILTER, TLS_INSPECTOR],
          metadata: { proxy_protocol_sources: ['127.0.0.0/8'] },
        }),
      ],
      clusters: [upstream(SNI)],
      endpoints: [endpoints(SNI, [{ port: target.port, tls: true }])],
      secrets: [credentialSecret(identity), trustSecret([home, peer])],
    })
    t.teardown(() => proxy.stop())
    const hello = await helloOf(SNI, ['istio'])
    const body = randomBytes(2 << 20)

    const segments = await dial(proxy.port('eastwest'))
    segments.setNoDelay(true)
    const echoed = readAll(segments)
    for (let at = 0; at < hello.length; at += 40) {
      segments.write(hello.subarray(at, at + 40))
      await new Promise((resolve) => setImmediate(resolve))
    }
    segments.end(body)
    t.equal(
      sha(await echoed),
      sha(Buffer.concat([hello, body])),
      'every byte, although the client ended first',
    )

    const accepts = target.accepts
    const other = await dial(proxy.port('eastwest'))
    other.write(await helloOf(SNI, ['h2']))
    t.equal((await readAll(other)).toString('hex'), kind === 'envoy' ? '' : '15030300020270', 'no mesh TLS')
    other.destroy()

    for (const head of [PROXY_V1, PROXY_V2]) {
      const spoken = await dial(proxy.port('behind'))
      const answer = readAll(spoken)
      spoken.write(Buffer.concat([head, hello, Buffer.from('x')]))
      // An Envoy whose listener filters see the end already may give up.
      while (!spoken.readableEnded && spoken.bytesRead < hello.length + 1)
        await new Promise((resolve) => setImmediate(resolve))
      spoken.end()
      t.equal(sha(await answer), sha(Buffer.concat([hello, Buffer.from('x')])), 'without the header')
    }
    t.equal(target.accepts, accepts + 2)
    const bare = await dial(proxy.port('behind'))
    bare.write(hello)
    t.equal((await readAll(bare)).length, 0, 'a header is required')
    bare.destroy()
    const wrong = Buffer.from(PROXY_V2)
    wrong[19] = 10
    const somebody = await dial(proxy.port('behind'))
    somebody.write(Buffer.concat([wrong, hello]))
    t.equal(
      (await readAll(somebody)).toString('hex'),
      kind === 'envoy' ? '' : '15030300020270',
      'not from there',
    )
    somebody.destroy()
    // Where its rbac denies at the first byte, an Envoy may have connected already.
    const more = target.accepts - accepts
    t.ok(more === 2 || (kind === 'envoy' && more === 3), `${more} connections for the two that may`)
  })
}
