// Policy, trust, upstream or listener change while a client is in the middle of its handshake: what counts is how things are when
// it is over.
import { once } from 'node:events'
import { type AddressInfo, connect, createServer } from 'node:net'
import t from 'tap'
import { TYPE } from '../../src/xds/types.ts'
import {
  allow,
  backend,
  gateway,
  gatewayListener,
  gone,
  SNI,
  trustSecret,
  uriPrincipal,
  type World,
} from './support.ts'

/** A TCP relay that lets the client's first flight through and holds the rest until `release`. */
async function holding(port: number) {
  let release = (): void => {}
  const answered = Promise.withResolvers<void>()
  const server = createServer((client) => {
    const up = connect(port, '127.0.0.1')
    for (const socket of [client, up]) socket.on('error', () => {})
    client.once('data', (hello) => {
      up.write(hello)
      client.pause()
      release = () => void client.pipe(up)
    })
    up.on('data', (chunk) => {
      client.write(chunk)
      answered.resolve()
    })
    up.on('close', () => client.destroy())
    client.on('close', () => up.destroy())
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    port: (server.address() as AddressInfo).port,
    answered: answered.promise,
    release: () => release(),
    close: () => server.close(),
  }
}

const changes: Record<string, { readonly flag: string; readonly make: (world: World) => void }> = {
  'the policy allows him no more': {
    flag: 'RBAC_DENIED',
    make: ({ proxy }) =>
      proxy.put(
        TYPE.listener,
        gatewayListener({ rbac: allow({ other: [uriPrincipal('prefix', 'spiffe://cluster-9.example/')] }) }),
      ),
  },
  'his trust domain is taken out': {
    flag: 'ID_REFUSED',
    make: ({ proxy, home }) => proxy.put(TYPE.secret, trustSecret([home])),
  },
  'the service is not exposed any more': {
    flag: 'NR',
    make: ({ proxy }) => void proxy.engine.update(TYPE.cluster, [], [SNI]),
  },
}

for (const [name, { flag, make }] of Object.entries(changes)) {
  for (const maxVersion of ['TLSv1.2', 'TLSv1.3'] as const) {
    t.test(`${name}, ${maxVersion}`, async (t) => {
      const target = await backend()
      const world = await gateway(target)
      const relay = await holding(world.port)
      const client = world.open({ port: relay.port, maxVersion })
      client.on('error', () => {})
      client.write('late')
      await relay.answered
      make(world)
      relay.release()
      await gone(client)
      t.match((await world.proxy.lines(1))[0], { flag })
      t.equal(target.accepts, 0)
      relay.close()
      await Promise.all([world.proxy.engine.close(), target.close()])
    })
  }
}
