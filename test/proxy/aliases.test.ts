// gRPC clients send `host` or `host:port` as the server name: aliases of the upstream that Istio's name means.
import { once } from 'node:events'
import { create } from '@bufbuild/protobuf'
import fc from 'fast-check'
import t from 'tap'
import { UpstreamNames } from '../../src/proxy/upstream-names.ts'
import { acceptUpstream } from '../../src/resources/accept-upstream.ts'
import { PermissionSchema, RBAC_Action } from '../../src/xds/gen/envoy/config/rbac/v3/rbac_pb.js'
import { TYPE } from '../../src/xds/types.ts'
import {
  backend,
  endpoints,
  gateway,
  gatewayListener,
  rbacFilter,
  readAll,
  SNI,
  upstream,
  uriPrincipal,
} from './support.ts'

const OTHER = 'outbound_.9080_._.details.bookinfo.svc.cluster.local'

t.test('an alias leads where the upstream’s own name does, in any case, and goes with it', async (t) => {
  const target = await backend()
  const world = await gateway(target)
  const ask = async (servername: string): Promise<string> => {
    const client = world.open({ servername })
    let code = ''
    client.on('error', (error: NodeJS.ErrnoException) => {
      code = error.code ?? ''
    })
    client.once('secureConnect', () => client.end('hello'))
    const answer = await readAll(client)
    return answer.toString() || code
  }
  const refused = 'ERR_SSL_TLSV1_UNRECOGNIZED_NAME'
  t.equal(await ask('productpage.bookinfo'), refused)
  world.proxy.put(
    TYPE.cluster,
    upstream(SNI, { aliases: ['productpage.bookinfo', 'productpage.bookinfo:9080'] }),
  )
  t.equal(await ask('productpage.bookinfo'), 'hello')
  t.equal(await ask('Productpage.Bookinfo:9080'), 'hello')
  t.equal(await ask(SNI), 'hello')
  t.equal(await ask('productpage.bookinfo:9081'), refused)
  t.match((await world.proxy.lines(3))[2], {
    sni: 'productpage.bookinfo:9080',
    upstream: SNI,
    host: 'productpage.bookinfo.svc.cluster.local',
    port: 9080,
  })
  // A second claim makes it ambiguous, and ambiguous is unknown.
  world.proxy.put(TYPE.cluster, upstream(OTHER, { aliases: ['productpage.bookinfo'] }))
  world.proxy.put(TYPE.endpoints, endpoints(OTHER, [{ port: target.port }]))
  t.equal(await ask('productpage.bookinfo'), refused)
  t.equal(await ask('productpage.bookinfo:9080'), 'hello')
  world.proxy.engine.update(TYPE.cluster, [], [OTHER])
  t.equal(await ask('productpage.bookinfo'), 'hello')
  world.proxy.put(TYPE.cluster, upstream(SNI))
  t.equal(await ask('productpage.bookinfo'), refused)
  await world.proxy.engine.close()
  await target.close()
})

t.test('an alias is no way around a rule about the name', async (t) => {
  const target = await backend()
  const named = create(PermissionSchema, {
    rule: { case: 'requestedServerName', value: { matchPattern: { case: 'exact', value: SNI } } },
  })
  const rules = (action: RBAC_Action) => ({
    action,
    policies: { name: { permissions: [named], principals: [uriPrincipal('prefix', 'spiffe://')] } },
  })
  const world = await gateway(target, { rbac: rbacFilter({ rules: rules(RBAC_Action.DENY) }) })
  world.proxy.put(TYPE.cluster, upstream(SNI, { aliases: ['productpage.bookinfo'] }))
  const client = world.open({ servername: 'productpage.bookinfo' })
  t.equal((await readAll(client)).length, 0)
  t.match((await world.proxy.lines(1))[0], { flag: 'RBAC_DENIED', sni: 'productpage.bookinfo' })
  t.equal(target.accepts, 0)
  world.proxy.put(TYPE.listener, gatewayListener({ rbac: rbacFilter({ rules: rules(RBAC_Action.ALLOW) }) }))
  const allowed = await world.connect({ servername: 'productpage.bookinfo' })
  allowed.write('x')
  await once(allowed, 'data')
  allowed.destroy()
  await world.proxy.engine.close()
  await target.close()
})

t.test('an alias that no ClientHello could say is refused', async (t) => {
  for (const alias of ['Upper.example', 'dot.', '', 'a b', '10.0.0.1', 7, 'x'.repeat(256)]) {
    t.match(acceptUpstream(upstream(SNI, { aliases: [alias as string] })), {
      ok: false,
      error: { field: 'metadata.filter_metadata["isthmus"].aliases[0]', message: /expected a server name/ },
    })
  }
})

t.test('the index, as a slow reference has it, for any coming and going', async () => {
  const name = fc.constantFrom('a', 'b', 'c', 'x', 'y')
  const step = fc.record({
    name,
    aliases: fc.option(fc.uniqueArray(name, { maxLength: 3 }), { nil: undefined }),
  })
  fc.assert(
    fc.property(fc.array(step, { maxLength: 20 }), (steps) => {
      const index = new UpstreamNames()
      const slow = new Map<string, readonly string[]>()
      for (const { name, aliases } of steps) {
        if (aliases === undefined) {
          index.delete(name)
          slow.delete(name)
        } else {
          index.set({ name, aliases })
          slow.set(name, aliases)
        }
      }
      return ['a', 'b', 'c', 'x', 'y', 'z'].every((asked) => {
        const claimants = [...slow].filter(([, aliases]) => aliases.includes(asked)).map(([own]) => own)
        const wanted = slow.has(asked) ? asked : claimants.length === 1 ? claimants[0] : undefined
        return index.find(asked) === wanted
      })
    }),
    { seed: 3, numRuns: 500 },
  )
})
