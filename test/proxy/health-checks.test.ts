// Active health checks, over real sockets.
import { once } from 'node:events'
import { createServer as createHttpServer, type Server as HttpServer } from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import { createServer as createTlsServer } from 'node:tls'
import type { JsonObject } from '@bufbuild/protobuf'
import { toJson } from '@bufbuild/protobuf'
import { AnySchema, anyPack } from '@bufbuild/protobuf/wkt'
import t from 'tap'
import { createCa } from '../../src/identity/ca.ts'
import type { EndpointStatus } from '../../src/proxy/upstream-status.ts'
import { UpstreamTlsContextSchema } from '../../src/xds/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.js'
import { TYPE } from '../../src/xds/types.ts'
import {
  backend,
  credentialSecret,
  gone,
  OUTBOUND,
  readAll,
  sidecarListener,
  TestProxy,
  trustSecret,
  upstreamTls,
} from './support.ts'
import { assignmentOf, clusterOf, type EndpointJson, registry } from './upstream-resource.ts'

const FAST: JsonObject = {
  timeout: '1s',
  interval: '0.02s',
  noTrafficInterval: '0.02s',
  unhealthyThreshold: 2,
  healthyThreshold: 2,
}

interface Checked {
  readonly proxy: TestProxy
  readonly port: number
  endpoints(): readonly EndpointStatus[]
  /** Resolves when the endpoint's flags are these. */
  until(flags: readonly string[], index?: number): Promise<void>
}

async function checked(
  check: JsonObject,
  endpoints: readonly EndpointJson[],
  cluster: JsonObject = {},
): Promise<Checked> {
  const proxy = new TestProxy()
  proxy.put(TYPE.cluster, clusterOf(OUTBOUND, { healthChecks: [{ ...FAST, ...check }], ...cluster }))
  proxy.put(TYPE.endpoints, assignmentOf(OUTBOUND, endpoints))
  proxy.put(TYPE.listener, sidecarListener({ protocol: 'tcp' }))
  const port = await proxy.port('productpage_9080')
  const statuses = () => proxy.engine.status().upstreams[0]?.endpoints ?? []
  return {
    proxy,
    port,
    endpoints: statuses,
    async until(flags, index = 0) {
      while (statuses()[index]?.healthFlags.join() !== flags.join())
        await new Promise((resolve) => setTimeout(resolve, 5))
    },
  }
}

async function ask(port: number): Promise<string> {
  const socket = connect({ host: '127.0.0.1', port, allowHalfOpen: true })
  socket.on('error', () => {})
  await once(socket, 'connect')
  return (await readAll(socket)).toString()
}

async function http(
  serve: Parameters<typeof createHttpServer>[1],
): Promise<{ port: number; server: HttpServer }> {
  const server = createHttpServer(serve).listen(0, '127.0.0.1')
  await once(server, 'listening')
  return { server, port: (server.address() as AddressInfo).port }
}

t.test('TCP: nobody is chosen before his first check, the first pass counts at once', async (t) => {
  const target = await backend((socket) => socket.end('good'))
  const world = await checked({ tcpHealthCheck: {} }, [{ port: target.port }])
  t.match(world.endpoints(), [{ healthy: false, healthFlags: ['failed_active_hc', 'pending_active_hc'] }])
  t.equal(await ask(world.port), '', 'no connection goes there yet')
  t.match((await world.proxy.lines(1))[0], { flag: 'UH', reason: /waits for its first health check/ })
  await world.until([])
  t.equal(await ask(world.port), 'good')
  await target.close()
  await world.until(['failed_active_hc'])
  t.match(world.endpoints(), [{ detail: /fails its health check: refused the connection/ }])
  t.equal(await ask(world.port), '')
  const again = await backend((socket) => socket.end('again'), '127.0.0.1', target.port)
  await world.until([])
  t.equal(await ask(world.port), 'again', 'and it is back')
  await Promise.all([world.proxy.engine.close(), again.close()])
})

t.test('TCP: what is sent, and what must come back, in pieces, over one connection', async (t) => {
  let healthy = true
  const target = await backend((socket) =>
    socket.on('data', (data) => {
      if (data.toString() !== 'ping') return
      socket.write('xxpo')
      setImmediate(() => socket.write(healthy ? 'xng!' : 'xxx!'))
    }),
  )
  const hex = (text: string) => ({ text: Buffer.from(text).toString('hex') })
  const check = { tcpHealthCheck: { send: hex('ping'), receive: [hex('po'), hex('ng')] }, timeout: '0.1s' }
  const world = await checked(check, [{ port: target.port }])
  await world.until([])
  const before = target.bytes
  while (target.bytes < before + 12) await new Promise((resolve) => setTimeout(resolve, 5))
  t.equal(target.accepts, 1, 'one connection for all checks')
  healthy = false
  await world.until(['failed_active_hc', 'active_hc_timeout'])
  t.match(world.endpoints(), [{ detail: /no answer within 100 ms/ }])
  await Promise.all([world.proxy.engine.close(), target.close()])
})

t.test('HTTP: status, host, path and headers; a bad answer needs no second one', async (t) => {
  let status = 200
  const seen: string[] = []
  const { server, port } = await http((request, response) => {
    seen.push(`${request.method} ${request.url} ${request.headers.host} ${request.headers['x-a']}`)
    response.writeHead(status, status === 299 ? { 'x-envoy-degraded': '1' } : {})
    response.end('body')
  })
  const check = {
    httpHealthCheck: {
      path: '/healthz?x=1',
      host: 'svc.example',
      expectedStatuses: [{ start: 200, end: 300 }],
      retriableStatuses: [{ start: 503, end: 504 }],
      requestHeadersToAdd: [{ header: { key: 'x-a', value: 'b' } }],
    },
    unhealthyThreshold: 1_000,
  }
  const world = await checked(check, [{ port }])
  await world.until([])
  t.equal(seen[0], 'GET /healthz?x=1 svc.example b')
  status = 503
  const before = seen.length
  while (seen.length < before + 3) await new Promise((resolve) => setTimeout(resolve, 5))
  t.same(world.endpoints()[0]?.healthFlags, [], 'a retriable status counts towards the threshold')
  status = 500
  await world.until(['failed_active_hc'])
  t.match(world.endpoints(), [{ detail: /answered 500/ }])
  status = 299
  await world.until(['degraded_active_hc'])
  t.match(world.endpoints(), [{ health: 'degraded', healthy: true }])
  await world.proxy.engine.close()
  server.closeAllConnections()
  server.close()
})

t.test('HTTP: connections are kept, bodies of all kinds are matched, what is no HTTP fails', async (t) => {
  let sockets = 0
  const { server, port } = await http((_, response) => {
    response.write('one ')
    setImmediate(() => response.end('two'))
  })
  server.on('connection', () => {
    sockets += 1
  })
  const hex = (text: string) => ({ text: Buffer.from(text).toString('hex') })
  const good = await checked({ httpHealthCheck: { path: '/', receive: [hex('one'), hex('two')] } }, [
    { port },
  ])
  await good.until([])
  for (let checks = 0; checks < 5; checks += 1)
    await new Promise((resolve) => server.once('request', resolve))
  t.equal(sockets, 1, 'chunked, and still one connection')
  await good.proxy.engine.close()
  const bad = await checked({ httpHealthCheck: { path: '/', receive: [hex('three')] } }, [{ port }])
  await bad.until(['failed_active_hc'])
  t.match(bad.endpoints(), [{ detail: /without the body that is expected/ }])
  await bad.proxy.engine.close()
  const noise = await backend((socket) => socket.end('SSH-2.0-x\r\n\r\n'))
  const wrong = await checked({ httpHealthCheck: { path: '/' } }, [{ port: noise.port }])
  await wrong.until(['failed_active_hc'])
  t.match(wrong.endpoints(), [{ detail: /answered no HTTP/ }])
  await Promise.all([wrong.proxy.engine.close(), noise.close()])
  server.closeAllConnections()
  server.close()
})

t.test('per endpoint: another port, another host name, or no checks at all', async (t) => {
  const target = await backend((socket) => socket.end('good'))
  const hosts: (string | undefined)[] = []
  const { server, port } = await http((request, response) => {
    hosts.push(request.headers.host)
    response.end()
  })
  const own = { healthCheckConfig: { portValue: port, hostname: 'own.example' } }
  const none = { healthCheckConfig: { disableActiveHealthCheck: true } }
  const world = await checked({ httpHealthCheck: { path: '/' } }, [
    { port: target.port, endpoint: own },
    { host: '127.0.0.2', port: 1, endpoint: none },
  ])
  t.same(world.endpoints()[1]?.healthFlags, [], 'not checked, so trusted')
  await world.until([])
  t.equal(hosts[0], 'own.example')
  t.equal(target.accepts, 0, 'its own port was not called')
  await Promise.all([world.proxy.engine.close(), target.close()])
  server.closeAllConnections()
  server.close()
})

t.test('over mutual TLS with the endpoint’s own pins', async (t) => {
  const [home, peer] = await Promise.all([
    createCa({ trustDomain: 'cluster-2.example' }),
    createCa({ trustDomain: 'cluster-1.example' }),
  ])
  const [client, identity] = await Promise.all([
    peer.issue({ namespace: 'bookinfo', serviceAccount: 'sleep' }),
    home.issue({ namespace: 'eastwest', serviceAccount: 'gateway' }),
  ])
  const callers: string[] = []
  const server = createTlsServer(
    {
      cert: identity.certificatePem,
      key: identity.privateKeyPem,
      ca: peer.bundlePem,
      requestCert: true,
      rejectUnauthorized: true,
    },
    (socket) => {
      socket.on('error', () => {})
      callers.push(socket.getPeerX509Certificate()?.subjectAltName ?? '')
      socket.end('HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n')
    },
  ).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const world = async (pin: string) => {
    const tls = toJson(AnySchema, anyPack(UpstreamTlsContextSchema, upstreamTls([pin])), {
      registry,
    }) as JsonObject
    const made = await checked({ httpHealthCheck: { path: '/' } }, [{ port }], {
      transportSocket: { name: 'tls', typedConfig: tls },
    })
    made.proxy.put(TYPE.secret, credentialSecret(client), trustSecret([home, peer]))
    return made
  }
  const good = await world('spiffe://cluster-2.example/ns/eastwest/sa/gateway')
  await good.until([])
  t.match(callers[0], /spiffe:\/\/cluster-1\.example\/ns\/bookinfo\/sa\/sleep/)
  await good.proxy.engine.close()
  const wrong = await world('spiffe://cluster-2.example/ns/eastwest/sa/other')
  await wrong.until(['failed_active_hc'])
  while (!/expected spiffe/.test(wrong.endpoints()[0]?.detail ?? ''))
    await new Promise((resolve) => setTimeout(resolve, 5))
  t.match(wrong.endpoints(), [{ detail: /the server is .*gateway; expected .*other/ }])
  await wrong.proxy.engine.close()
  server.close()
})

t.test(
  'an endpoint that fails loses its connections where that is asked for, and else keeps them',
  async (t) => {
    for (const cut of [true, false]) {
      let serving = true
      const target = await backend()
      const checks = await backend((socket) => {
        if (serving) socket.on('data', (data) => socket.write(data))
        else socket.resetAndDestroy()
      })
      const own = { healthCheckConfig: { portValue: checks.port } }
      const zero = { text: '00' }
      const check = { tcpHealthCheck: { send: zero, receive: [zero] } }
      const world = await checked(check, [{ port: target.port, endpoint: own }], {
        closeConnectionsOnHostHealthFailure: cut,
      })
      await world.until([])
      const client = connect(world.port, '127.0.0.1')
      client.on('error', () => {})
      client.write('hello')
      await once(client, 'data')
      serving = false
      for (const socket of checks.sockets) socket.resetAndDestroy()
      await world.until(['failed_active_hc'])
      if (cut) {
        await gone(client)
        t.match((await world.proxy.lines(1))[0], { flag: 'UC', reason: /failed its health check/ })
      } else {
        client.write('still')
        await once(client, 'data')
        client.destroy()
      }
      t.equal(world.proxy.engine.status().upstreams[0]?.counters.cxCutUnhealthy, cut ? 1 : 0)
      await Promise.all([world.proxy.engine.close(), target.close(), checks.close()])
    }
  },
)

t.test(
  'what discovery takes away stays while its checks find it well, unless they are not to count',
  async (t) => {
    const [stays, other] = await Promise.all([backend((s) => s.end('stays')), backend((s) => s.end('other'))])
    const world = await checked({ tcpHealthCheck: {} }, [{ port: stays.port }])
    await world.until([])
    world.proxy.put(TYPE.endpoints, assignmentOf(OUTBOUND, [{ port: other.port }]))
    await world.until([])
    t.same(
      world.endpoints().map(({ healthFlags }) => healthFlags),
      [[], ['pending_dynamic_removal']],
    )
    await stays.close()
    while (world.endpoints().length > 1) await new Promise((resolve) => setTimeout(resolve, 5))
    t.equal(await ask(world.port), 'other', 'gone with its health')
    world.proxy.put(
      TYPE.cluster,
      clusterOf(OUTBOUND, {
        healthChecks: [{ ...FAST, tcpHealthCheck: {} }],
        ignoreHealthOnHostRemoval: true,
      }),
    )
    world.proxy.put(TYPE.endpoints, assignmentOf(OUTBOUND, []))
    t.equal(world.endpoints().length, 0)
    await Promise.all([world.proxy.engine.close(), other.close()])
  },
)

t.test(
  'checks that are configured later take no traffic away by themselves, and end with their configuration',
  async (t) => {
    const target = await backend((socket) => socket.end('good'))
    const world = await checked({ tcpHealthCheck: {} }, [{ port: target.port }], { healthChecks: [] })
    t.equal(await ask(world.port), 'good')
    const before = target.accepts
    world.proxy.put(TYPE.cluster, clusterOf(OUTBOUND, { healthChecks: [{ ...FAST, tcpHealthCheck: {} }] }))
    t.same(world.endpoints()[0]?.healthFlags, [])
    t.equal(await ask(world.port), 'good', 'at once')
    while (target.accepts < before + 4) await new Promise((resolve) => setTimeout(resolve, 5))
    await target.close()
    await world.until(['failed_active_hc'])
    world.proxy.put(TYPE.cluster, clusterOf(OUTBOUND, {}))
    t.same(world.endpoints()[0]?.healthFlags, [], 'nothing is held against it any more')
    await world.proxy.engine.close()
  },
)
