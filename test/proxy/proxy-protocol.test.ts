// The PROXY protocol downstream: who may speak for others, and what becomes of what he says.
import { connect as connectTls } from 'node:tls'
import { create } from '@bufbuild/protobuf'
import t from 'tap'
import { createCa } from '../../src/identity/ca.ts'
import { acceptListener } from '../../src/resources/accept-listener.ts'
import { ProxyProtocolConfig_Version as Version } from '../../src/xds/gen/envoy/config/core/v3/proxy_protocol_pb.js'
import { PrincipalSchema } from '../../src/xds/gen/envoy/config/rbac/v3/rbac_pb.js'
import { ProxyProtocolSchema } from '../../src/xds/gen/envoy/extensions/filters/listener/proxy_protocol/v3/proxy_protocol_pb.js'
import { TYPE, type XdsResource } from '../../src/xds/types.ts'
import { dial } from './raw-client.ts'
import {
  allow,
  backend,
  credentialSecret,
  endpoints,
  type GatewayListenerOptions,
  listenerOf,
  OUTBOUND,
  readAll,
  SNI,
  TestProxy,
  TLS_INSPECTOR,
  tcpProxy,
  terminateChain,
  trustSecret,
  typed,
  upstream,
} from './support.ts'

const filterFor = (
  config: { disallowedVersions?: Version[]; allowRequestsWithoutProxyProtocol?: boolean } = {},
) => ({
  name: 'envoy.filters.listener.proxy_protocol',
  configType: typed(ProxyProtocolSchema, create(ProxyProtocolSchema, config)),
})
const listenerFor = (
  sources: readonly string[],
  options: GatewayListenerOptions & { filters?: ReturnType<typeof filterFor>[] } = {},
): XdsResource =>
  listenerOf([terminateChain(options)], {
    listenerFilters: options.filters ?? [filterFor(), TLS_INSPECTOR],
    metadata: { proxy_protocol_sources: [...sources] },
  })

const [home, peer] = await Promise.all([
  createCa({ trustDomain: 'cluster-2.example' }),
  createCa({ trustDomain: 'cluster-1.example' }),
])
const gatewayPem = await home.issue({ namespace: 'eastwest', serviceAccount: 'gateway' })
const clientPem = await peer.issue({ namespace: 'bookinfo', serviceAccount: 'sleep' })

async function world(listener: XdsResource, target: { readonly port: number }) {
  const proxy = new TestProxy()
  proxy.put(TYPE.cluster, upstream(SNI))
  proxy.put(TYPE.endpoints, endpoints(SNI, [{ port: target.port }]))
  proxy.put(TYPE.listener, listener)
  proxy.put(TYPE.secret, credentialSecret(gatewayPem), trustSecret([home, peer]))
  return { proxy, port: await proxy.port('eastwest') }
}

/** Speaks `head` and then TLS; what is echoed. */
async function call(port: number, ...head: readonly Buffer[]): Promise<string> {
  const socket = await dial(port)
  socket.setNoDelay(true)
  for (const part of head) {
    socket.write(part)
    await new Promise((resolve) => setTimeout(resolve, head.length > 1 ? 5 : 0))
  }
  const client = connectTls({
    socket,
    servername: SNI,
    cert: clientPem.certificatePem,
    key: clientPem.privateKeyPem,
    ca: home.bundlePem,
    checkServerIdentity: () => undefined,
  })
  client.on('error', () => {})
  client.once('secureConnect', () => client.end('hello'))
  return (await readAll(client)).toString()
}

const V1 = Buffer.from('PROXY TCP4 203.0.113.9 198.51.100.1 4711 443\r\n')
const V2 = Buffer.from('0d0a0d0a000d0a515549540a2111000ccb007109c6336401126701bb', 'hex')
const LOCAL = Buffer.from('0d0a0d0a000d0a515549540a20000000', 'hex')
const ONE_BYTE_EACH = [...V2].map((byte) => Buffer.from([byte]))

t.test('a listed source speaks for the client: in the log, to policy, in any segments', async (t) => {
  const target = await backend()
  const { proxy, port } = await world(listenerFor(['127.0.0.0/8']), target)
  for (const head of [[V1], [V2], ONE_BYTE_EACH]) t.equal(await call(port, ...head), 'hello')
  t.equal(await call(port, LOCAL), 'hello')
  const lines = await proxy.lines(4)
  for (const line of lines.slice(0, 3))
    t.match(line, { remoteAddress: '203.0.113.9:4711', directRemoteAddress: /^127\.0\.0\.1:/, flag: '-' })
  t.match(
    lines[3],
    { remoteAddress: /^127\.0\.0\.1:/, directRemoteAddress: '' },
    'LOCAL: it speaks for itself',
  )

  const from = (name: 'remoteIp' | 'directRemoteIp' | 'sourceIp', address: string) =>
    allow({
      p: [
        create(PrincipalSchema, {
          identifier: { case: name, value: { addressPrefix: address, prefixLen: 32 } },
        }),
      ],
    })
  const cases = [
    [from('remoteIp', '203.0.113.9'), 'hello'],
    [from('sourceIp', '203.0.113.9'), 'hello'],
    [from('directRemoteIp', '203.0.113.9'), ''],
    [from('directRemoteIp', '127.0.0.1'), 'hello'],
    [from('remoteIp', '127.0.0.1'), ''],
  ] as const
  for (const [rbac, answer] of cases) {
    proxy.put(TYPE.listener, listenerFor(['127.0.0.1'], { rbac }))
    t.equal(await call(port, V2), answer)
  }
  await proxy.engine.close()
  await target.close()
})

t.test('a listed source without a header, or with a broken one, gets no answer', async (t) => {
  const target = await backend()
  const { proxy, port } = await world(listenerFor(['127.0.0.0/8']), target)
  t.equal(await call(port), '', 'TLS at once')
  for (const bytes of [
    'GET / HTTP/1.1\r\n\r\n',
    'PROXY TCP4 1.2.3.4\r\n',
    `PROXY UNKNOWN ${'x'.repeat(100)}`,
    'PROXY',
  ]) {
    const socket = await dial(port)
    socket.end(bytes)
    t.equal((await readAll(socket)).length, 0)
  }
  for (const line of await proxy.lines(5)) t.match(line, { flag: 'PROXY_HEADER', sni: '', upstream: '' })
  t.equal(target.accepts, 0)
  await proxy.engine.close()
  await target.close()
})

t.test('from anybody else a header is no TLS; without one he is served as ever', async (t) => {
  const target = await backend()
  const { proxy, port } = await world(listenerFor(['10.0.0.0/8']), target)
  for (const head of [V1, V2]) {
    const socket = await dial(port)
    socket.write(head)
    t.equal((await readAll(socket)).length, 0)
  }
  t.equal(await call(port), 'hello')
  const lines = await proxy.lines(3)
  t.same(
    lines.map(({ flag }) => flag),
    ['TLS_HELLO', 'TLS_HELLO', '-'],
  )
  t.ok(lines.every(({ remoteAddress }) => remoteAddress.startsWith('127.0.0.1:')))
  await proxy.engine.close()
  await target.close()
})

t.test(
  'half a header ends at the deadline, and the deadline is one for all that comes before TLS',
  async (t) => {
    const target = await backend()
    const listener = listenerOf([terminateChain({ handshakeTimeoutS: 0.3 })], {
      listenerFilters: [filterFor(), TLS_INSPECTOR],
      listenerFiltersTimeoutS: 0.3,
      metadata: { proxy_protocol_sources: ['127.0.0.1'] },
    })
    const { proxy, port } = await world(listener, target)
    const [half, whole] = await Promise.all([dial(port), dial(port)])
    half.write(V2.subarray(0, 20))
    whole.write(V2)
    await Promise.all([readAll(half), readAll(whole)])
    const flags = (await proxy.lines(2)).map(({ flag, reason }) => `${flag} ${reason}`).sort()
    t.match(flags[0], /^PROXY_HEADER no whole PROXY header within 300 ms/)
    t.match(flags[1], /^TLS_HELLO no whole ClientHello within 300 ms/)
    await proxy.engine.close()
    await target.close()
  },
)

t.test('plain TCP: the first bytes behind the header are the backend’s', async (t) => {
  const target = await backend()
  const proxy = new TestProxy()
  proxy.put(TYPE.cluster, upstream(OUTBOUND))
  proxy.put(TYPE.endpoints, endpoints(OUTBOUND, [{ port: target.port }]))
  proxy.put(
    TYPE.listener,
    listenerOf([{ filters: [tcpProxy({ cluster: OUTBOUND })] }], {
      name: 'plain',
      listenerFilters: [filterFor()],
      metadata: { proxy_protocol_sources: ['127.0.0.1'] },
    }),
  )
  const socket = await dial(await proxy.port('plain'))
  socket.end(Buffer.concat([V1, Buffer.from('payload')]))
  t.equal((await readAll(socket)).toString(), 'payload')
  t.match((await proxy.lines(1))[0], { remoteAddress: '203.0.113.9:4711', bytesIn: 7, bytesOut: 7 })
  await proxy.engine.close()
  await target.close()
})

t.test('what is refused as configuration', async (t) => {
  const refusal = (listener: XdsResource): string => {
    const result = acceptListener(listener)
    return result.ok ? 'accepted' : `${result.error.field}: ${result.error.message}`
  }
  const sources = 'metadata.filter_metadata["isthmus"].proxy_protocol_sources'
  t.match(acceptListener(listenerFor(['10.0.0.0/8', 'fd00::1'])), {
    ok: true,
    value: {
      proxyProtocol: {
        sources: [
          { address: '10.0.0.0', prefixLength: 8 },
          { address: 'fd00::1', prefixLength: 128 },
        ],
        versions: [1, 2],
      },
    },
  })
  t.match(refusal(listenerFor([])), `${sources}: expected the address ranges`)
  t.match(refusal(listenerFor(['10.0.0.0/33'])), `${sources}[0]: expected an address or a range`)
  t.match(refusal(listenerFor(['lb.example'])), `${sources}[0]`)
  t.match(
    refusal(listenerFor(['10.0.0.1'], { filters: [TLS_INSPECTOR] as never })),
    `${sources}: expected the listener filter`,
  )
  t.match(
    refusal(listenerFor(['10.0.0.1'], { filters: [TLS_INSPECTOR as never, filterFor()] })),
    /before tls_inspector/,
  )
  t.match(
    refusal(listenerFor(['10.0.0.1'], { filters: [filterFor({ allowRequestsWithoutProxyProtocol: true })] })),
    /allow_requests_without_proxy_protocol: not supported/,
  )
  t.match(
    refusal(
      listenerFor(['10.0.0.1'], { filters: [filterFor({ disallowedVersions: [Version.V1, Version.V2] })] }),
    ),
    /one version/,
  )
  t.match(
    acceptListener(listenerFor(['10.0.0.1'], { filters: [filterFor({ disallowedVersions: [Version.V1] })] })),
    {
      value: { proxyProtocol: { versions: [2] } },
    },
  )
})
