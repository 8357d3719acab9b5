// The PROXY protocol towards upstreams: the bytes, and what HAProxy reads from them.
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { type AddressInfo, connect, createServer, isIPv6 } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import t from 'tap'
import { ipBytes } from '../../src/proxy/ip-bytes.ts'
import { decodeProxyHeader } from '../../src/proxy/proxy-protocol-decode.ts'
import { encodeV1, encodeV2, formatTlv, proxyHeader } from '../../src/proxy/proxy-protocol-encode.ts'
import type { UpstreamProxyProtocolConfig } from '../../src/resources/upstream-types.ts'
import { TYPE } from '../../src/xds/types.ts'
import { backend, gateway, OUTBOUND, readAll, SNI, sidecarListener, TestProxy } from './support.ts'
import { assignmentOf, clusterOf } from './upstream-resource.ts'

const V4 = { source: { host: '192.0.2.1', port: 56_324 }, destination: { host: '198.51.100.2', port: 443 } }
const V6 = { source: { host: '2001:db8::1', port: 4_000 }, destination: { host: '::ffff:1:2', port: 80 } }
const MIXED = { source: { host: '::ffff:192.0.2.1', port: 1 }, destination: { host: '2001:db8::2', port: 2 } }
const SIGNATURE = '0d0a0d0a000d0a515549540a'

t.test('version 1 is the line of the specification', async (t) => {
  t.equal(encodeV1(V4).toString(), 'PROXY TCP4 192.0.2.1 198.51.100.2 56324 443\r\n')
  t.equal(encodeV1(V6).toString(), 'PROXY TCP6 2001:db8:0:0:0:0:0:1 0:0:0:0:0:ffff:1:2 4000 80\r\n')
  t.equal(encodeV1(MIXED).toString(), 'PROXY TCP6 0:0:0:0:0:ffff:c000:201 2001:db8:0:0:0:0:0:2 1 2\r\n')
  t.equal(encodeV1(undefined).toString(), 'PROXY UNKNOWN\r\n')
})

t.test('version 2, byte by byte', async (t) => {
  const hex = (bytes: Buffer) => bytes.toString('hex')
  t.equal(hex(encodeV2(V4)), `${SIGNATURE}2111000cc0000201c6336402dc0401bb`)
  t.equal(
    hex(encodeV2(V6)),
    `${SIGNATURE}21210024${'20010db8000000000000000000000001'}${'00000000000000000000ffff00010002'}0fa00050`,
  )
  t.equal(hex(encodeV2(undefined)), `${SIGNATURE}20000000`, 'LOCAL, for our own health checks')
  const tlvs = [
    { type: 0x02, value: Buffer.from('a.example') },
    { type: 0xe0, value: Buffer.alloc(0) },
  ]
  t.equal(
    hex(encodeV2(V4, tlvs)),
    `${SIGNATURE}2111001bc0000201c6336402dc0401bb020009${hex(Buffer.from('a.example'))}e00000`,
  )
  t.throws(() => encodeV2(V4, [{ type: 1, value: Buffer.alloc(65_536) }]), RangeError)
})

t.test('whatever is encoded is decoded again', async (t) => {
  const address = fc.oneof(fc.ipV4(), fc.ipV6().filter(isIPv6))
  const end = fc.record({ host: address, port: fc.integer({ min: 0, max: 65_535 }) })
  const tlv = fc.record({
    type: fc.integer({ min: 0xe0, max: 0xef }),
    value: fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes)),
  })
  fc.assert(
    fc.property(end, end, fc.array(tlv, { maxLength: 4 }), (source, destination, tlvs) => {
      for (const bytes of [encodeV1({ source, destination }), encodeV2({ source, destination }, tlvs)]) {
        const result = decodeProxyHeader(bytes)
        if (result.kind !== 'header' || result.header.length !== bytes.length) return false
        const { addresses } = result.header
        if (addresses?.source.port !== source.port || addresses.destination.port !== destination.port)
          return false
        const [told, was] = [ipBytes(addresses.source.ip), ipBytes(source.host)]
        if (told?.subarray(-4).equals(was?.subarray(-4) ?? Buffer.alloc(0)) !== true) return false
      }
      return true
    }),
    { seed: 4, numRuns: 1_000 },
  )
  t.pass()
})

t.test('which TLVs go along', async (t) => {
  const config = (over: Partial<UpstreamProxyProtocolConfig>): UpstreamProxyProtocolConfig => ({
    version: 'V2',
    passTlvs: 'none',
    addedTlvs: [],
    ...over,
  })
  const own = [
    { type: 2, value: Buffer.from('sni') },
    { type: 0xe0, value: Buffer.from('id') },
  ]
  const added = [{ type: 2, value: Buffer.from('fixed'), format: '' }]
  for (const [over, expected] of [
    [{}, []],
    [{ passTlvs: 'all' }, own],
    [{ passTlvs: [0xe0] }, own.slice(1)],
    [{ passTlvs: 'all', addedTlvs: added }, [{ type: 2, value: Buffer.from('fixed') }, own[1]]],
  ] as const)
    t.same(proxyHeader(config(over), V4, own), encodeV2(V4, expected as typeof own), JSON.stringify(over))
  t.same(proxyHeader(config({ version: 'V1', passTlvs: 'all' }), V4, own), encodeV1(V4))
  const format = (text: string) =>
    formatTlv({ type: 2, value: undefined, format: text }, { REQUESTED_SERVER_NAME: 'a' }).value.toString()
  t.equal(format('sni=%REQUESTED_SERVER_NAME%;%UPSTREAM_CLUSTER%'), 'sni=a;-')
})

const socketOf = (config: object) => ({
  transportSocket: {
    name: 'envoy.transport_sockets.upstream_proxy_protocol',
    typedConfig: {
      '@type':
        'type.googleapis.com/envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport',
      config,
      transportSocket: {
        name: 'raw',
        typedConfig: {
          '@type': 'type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer',
        },
      },
    },
  } as never,
})

t.test(
  'an upstream behind the gateway is told the caller’s address, server name and verified id',
  async (t) => {
    const target = await backend((socket) => socket.once('data', (data) => socket.end(data)))
    const world = await gateway(target, {
      proxyProtocolTlvs: [
        [0x02, '%REQUESTED_SERVER_NAME%'],
        [0xe0, '%DOWNSTREAM_PEER_URI_SAN%'],
      ],
    })
    world.proxy.put(TYPE.cluster, clusterOf(SNI, socketOf({ version: 'V2', passThroughTlvs: {} })))
    world.proxy.put(TYPE.endpoints, assignmentOf(SNI, [{ port: target.port }]))
    const client = await world.connect()
    const result = decodeProxyHeader(await readAll(client))
    if (result.kind !== 'header') throw new Error(result.kind)
    t.match(result.header, {
      version: 2,
      addresses: {
        source: { ip: '127.0.0.1', port: client.localPort },
        destination: { ip: '127.0.0.1', port: world.port },
      },
    })
    t.same(
      result.header.tlvs.map(({ type, value }) => [type, value.toString()]),
      [
        [0x02, SNI],
        [0xe0, 'spiffe://cluster-1.example/ns/bookinfo/sa/sleep'],
      ],
    )
    await Promise.all([world.proxy.engine.close(), target.close()])
  },
)

const HAPROXY = '/usr/sbin/haproxy'

t.test(
  'HAProxy reads it',
  { skip: existsSync(HAPROXY) || process.env['CI'] !== undefined ? false : 'no HAProxy' },
  async (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'isthmus-haproxy-'))
    const free = createServer().listen(0, '127.0.0.1')
    await once(free, 'listening')
    const { port } = free.address() as AddressInfo
    free.close()
    await once(free, 'close')
    writeFileSync(
      join(folder, 'haproxy.cfg'),
      `defaults
  mode http
  timeout client 5s
  timeout server 5s
  timeout connect 5s
frontend f
  bind 127.0.0.1:${port} accept-proxy
  http-request return status 200 content-type text/plain lf-string "%[src] %[src_port] %[dst] %[dst_port] %[fc_pp_authority]"
`,
    )
    const haproxy: ChildProcess = spawn(HAPROXY, ['-db', '-f', join(folder, 'haproxy.cfg')], {
      stdio: 'ignore',
    })
    t.teardown(async () => {
      haproxy.kill('SIGKILL')
      await once(haproxy, 'exit')
      rmSync(folder, { recursive: true })
    })
    for (;;) {
      const probe = connect(port, '127.0.0.1')
      const up = await Promise.race([
        once(probe, 'connect').then(
          () => true,
          () => false,
        ),
        once(haproxy, 'exit'),
      ])
      probe.destroy()
      if (up === true) break
      if (up !== false) throw new Error('HAProxy ended')
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
    for (const version of ['V1', 'V2'] as const) {
      const proxy = new TestProxy()
      const passThroughTlvs = version === 'V2' ? { passThroughTlvs: {} } : {}
      proxy.put(TYPE.cluster, clusterOf(OUTBOUND, socketOf({ version, ...passThroughTlvs })))
      proxy.put(TYPE.endpoints, assignmentOf(OUTBOUND, [{ port }]))
      proxy.put(
        TYPE.listener,
        sidecarListener({ protocol: 'tcp', proxyProtocolTlvs: [[2, '%DOWNSTREAM_LOCAL_ADDRESS%']] }),
      )
      const listening = await proxy.port('productpage_9080')
      const client = connect({ port: listening, host: '127.0.0.1', localAddress: '127.0.0.9' })
      await once(client, 'connect')
      client.write('GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n')
      const answer = (await readAll(client)).toString()
      const authority = version === 'V2' ? `127.0.0.1:${listening}` : ''
      t.equal(
        answer.split('\r\n\r\n')[1]?.trim(),
        `127.0.0.9 ${client.localPort} 127.0.0.1 ${listening} ${authority}`.trim(),
        version,
      )
      await proxy.engine.close()
    }
  },
)
