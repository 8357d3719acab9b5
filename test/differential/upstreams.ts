// What a client gets when the service behind the name is not there, or there in part.
import type { Case } from './case.ts'
import { backendSees } from './context.ts'
import { BANNER, type Service } from './world.ts'

/** Nobody answers: the client is told by an orderly end, and nobody else hears of it. */
const unserved = (service: Service): Case => ({
  id: `upstreams/${service}`,
  run: async (context) => {
    const { echo, script } = context.world
    const before = echo.connects + script.connects
    const client = context.client(service)
    client.tls.write('ping')
    await client.ended()
    return context.outcome(client, `${echo.connects + script.connects - before} connects`)
  },
})

/** Somebody answers: the one that is left. */
const served = (service: Service): Case => ({
  id: `upstreams/${service}`,
  run: async (context) => {
    const client = context.client(service)
    client.tls.write('ping')
    await client.wire.until(() => client.received === 4 || client.wire.tcpEnd !== 'open')
    client.tls.end()
    await client.ended()
    return context.outcome(client, 'echo')
  },
})

export const UPSTREAMS: readonly Case[] = [
  ...(['empty', 'unhealthy', 'refused', 'blackhole'] as const).map(unserved),
  ...(['failover', 'failover-blackhole', 'priorities', 'priorities-refused'] as const).map(served),
  {
    id: 'upstreams/one-attempt',
    run: async (context) => {
      const client = context.client('refused', { listener: 'once' })
      client.tls.write('ping')
      await client.ended()
      return context.outcome(client, 'no connect')
    },
  },
  {
    id: 'upstreams/slams',
    run: async (context) => {
      const client = context.client('slams')
      client.tls.write('ping')
      await client.ended()
      return context.outcome(client, 'reset at the first byte')
    },
  },
  {
    id: 'upstreams/closes',
    run: async (context) => {
      const client = context.client('closes')
      await client.wire.until(() => client.seen().alerts.length > 0 || client.wire.tcpEnd !== 'open')
      client.tls.end('after all')
      await client.ended()
      const { closes } = context.world
      const connection = closes.connections.at(-1)
      await closes.until(() => connection?.end !== 'open')
      return context.outcome(client, String(connection?.bytes))
    },
  },
  {
    id: 'upstreams/server-first',
    run: async (context) => {
      const client = context.client('banner')
      await client.wire.until(() => client.received === BANNER.length || client.wire.tcpEnd !== 'open')
      client.tls.end()
      await client.ended()
      return context.outcome(client, 'speaks first')
    },
  },
  {
    id: 'upstreams/unknown-name',
    run: async (context) => {
      const client = context.client('nobody')
      client.tls.write('ping')
      await client.ended()
      return context.outcome(client, 'no connect')
    },
  },
  {
    id: 'upstreams/no-name',
    run: async (context) => {
      const client = context.client('nobody', { servername: '' })
      client.tls.write('ping')
      await client.ended()
      return context.outcome(client, 'no connect')
    },
  },
  {
    id: 'upstreams/circuit-breaker-of-connections',
    run: async (context) => {
      const { script } = context.world
      const first = context.client('narrow')
      const connection = await context.reach(first, script)
      const second = context.client('narrow')
      second.tls.write('ping')
      await second.ended()
      const outcome = await context.outcome(second, '')
      connection.stream.end('done')
      await first.wire.until(() => first.received === 4)
      return { ...outcome, backend: 'the first goes on' }
    },
  },
  {
    id: 'passthrough/mesh-tls',
    run: async (context) => {
      const { mesh } = context.world
      const client = context.client('mesh', { listener: 'mixed', ALPNProtocols: ['istio'] })
      const connection = await context.reach(client, mesh)
      connection.stream.end('pong')
      await client.wire.until(() => client.received === 4)
      client.tls.end()
      await mesh.until(() => connection.end !== 'open')
      await client.ended()
      return context.outcome(client, backendSees(connection))
    },
  },
  {
    id: 'passthrough/no-istio-protocol',
    run: async (context) => {
      const { mesh } = context.world
      const before = mesh.connects
      const client = context.client('mesh', { listener: 'mixed' })
      client.tls.write('ping')
      await client.ended()
      const { client: saw, ending } = await context.outcome(client, '')
      return {
        client: client.received > 0 ? saw : 'refused',
        backend: `${mesh.connects - before} connects`,
        ending,
      }
    },
  },
  {
    id: 'passthrough/reset-by-the-workload',
    run: async (context) => {
      const { mesh } = context.world
      const client = context.client('mesh', { listener: 'mixed', ALPNProtocols: ['istio'] })
      const connection = await context.reach(client, mesh)
      connection.raw.resetAndDestroy()
      await client.ended()
      return context.outcome(client, backendSees(connection))
    },
  },
]
