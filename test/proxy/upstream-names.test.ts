// STRICT_DNS and LOGICAL_DNS upstreams, through a real DNS server.
import { once } from 'node:events'
import { connect } from 'node:net'
import t from 'tap'
import { createResolve } from '../../src/proxy/resolve.ts'
import { TYPE } from '../../src/xds/types.ts'
import { backend, OUTBOUND, readAll, sidecarListener, TestProxy } from './support.ts'
import { DnsServer } from './test-dns-server.ts'
import { clusterOf } from './upstream-resource.ts'

async function world(type: string, port: number) {
  const dns = new DnsServer()
  dns.zone = { A: ['127.0.0.3', '127.0.0.2'], ttl: 60 }
  const resolve = createResolve({ servers: [await dns.listen()], hostsFile: '/does/not/exist' })
  const proxy = new TestProxy({ resolve })
  const endpoint = { address: { socketAddress: { address: 'svc.example', portValue: port } } }
  proxy.put(
    TYPE.cluster,
    clusterOf(OUTBOUND, {
      type,
      edsClusterConfig: null,
      dnsLookupFamily: 'V4_ONLY',
      dnsRefreshRate: '0.02s',
      loadAssignment: { clusterName: OUTBOUND, endpoints: [{ lbEndpoints: [{ endpoint }] }] },
    }),
  )
  proxy.put(TYPE.listener, sidecarListener({ protocol: 'tcp' }))
  const listening = await proxy.port('productpage_9080')
  const status = () => proxy.engine.status().upstreams[0]
  return {
    dns,
    proxy,
    status,
    addresses: () => status()?.endpoints.map(({ address }) => address) ?? [],
    /** Resolves when this is so. */
    until: async (holds: () => boolean) => {
      while (!holds()) await new Promise((resolve) => setTimeout(resolve, 5))
    },
    ask: async () => {
      const socket = connect({ host: '127.0.0.1', port: listening })
      await once(socket, 'connect')
      return (await readAll(socket)).toString()
    },
    close: () => Promise.all([proxy.engine.close(), dns.close()]),
  }
}

t.test('STRICT_DNS: every address is an endpoint; failures keep them, and their age is told', async (t) => {
  const two = await backend((socket) => socket.end('two'), '127.0.0.2')
  const three = await backend((socket) => socket.end('three'), '127.0.0.3', two.port)
  const { dns, status, addresses, until, ask, close } = await world('STRICT_DNS', two.port)
  await until(() => addresses().length === 2)
  t.same(addresses(), [`127.0.0.2:${two.port}`, `127.0.0.3:${two.port}`])
  t.same(new Set([await ask(), await ask()]), new Set(['two', 'three']))
  dns.zone = { A: ['127.0.0.2'] }
  await until(() => addresses().length === 1)
  t.equal(await ask(), 'two')
  dns.zone = { rcode: 'SERVFAIL' }
  await until(() => /SERVFAIL/.test(status()?.names[0]?.error ?? ''))
  t.equal(await ask(), 'two', 'the last good answer')
  t.match(status()?.names, [{ host: 'svc.example', addresses: ['127.0.0.2'], error: /does not resolve/ }])
  dns.zone = { rcode: 'NXDOMAIN' }
  await until(() => addresses().length === 0)
  t.equal(await ask(), '')
  dns.zone = { A: ['127.0.0.3'], ttl: 60 }
  await until(() => addresses().length === 1)
  await Promise.all([close(), two.close(), three.close()])
})

t.test('LOGICAL_DNS: one endpoint, whatever the answer; open connections stay when it moves', async (t) => {
  const two = await backend((socket) => socket.write('two'), '127.0.0.2')
  const three = await backend((socket) => socket.end('three'), '127.0.0.3', two.port)
  const { dns, addresses, until, ask, close, proxy } = await world('LOGICAL_DNS', two.port)
  await until(() => addresses().length > 0)
  t.same(addresses(), [`127.0.0.2:${two.port}`])
  const open = connect({ host: '127.0.0.1', port: await proxy.port('productpage_9080') })
  t.equal(String((await once(open, 'data'))[0]), 'two')
  dns.zone = { A: ['127.0.0.3'] }
  await until(() => addresses()[0]?.startsWith('127.0.0.3') === true)
  t.equal(await ask(), 'three')
  two.sockets[0]?.write('still')
  t.equal(String((await once(open, 'data'))[0]), 'still')
  open.destroy()
  await Promise.all([close(), two.close(), three.close()])
})
