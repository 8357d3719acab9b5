// The system is asked to probe clients whose connections stay. How it then does, on both runtimes: test/targets/keepalive.test.ts.
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import t, { type Test } from 'tap'
import { silentLogger } from '../../src/lib/log.ts'
import { ConnectionTable } from '../../src/proxy/connection-table.ts'
import { plainEnd } from '../../src/proxy/forward.ts'
import { ROUND_MS } from '../../src/proxy/rounds.ts'
import { HandClock } from './hand-clock.ts'

const linux = process.platform === 'linux' ? {} : { skip: 'proc(5) is of Linux' }

/** Seconds until the system's next keepalive probe; undefined where it will send none (proc_net_tcp: `tr tm->when`, 1/100 s). */
function probeIn(socket: Socket): number | undefined {
  const ends = [socket.localPort, socket.remotePort].map((port) =>
    (port ?? 0).toString(16).toUpperCase().padStart(4, '0'),
  )
  const row = readFileSync('/proc/net/tcp', 'latin1')
    .split('\n')
    .map((line) => line.trim().split(/\s+/))
    .find(([, local, remote]) => local?.endsWith(`:${ends[0]}`) && remote?.endsWith(`:${ends[1]}`))
  const [timer, ticks = '0'] = row?.[5]?.split(':') ?? []
  return timer === '02' ? Number.parseInt(ticks, 16) / 100 : undefined
}

async function pair(t: Test): Promise<[Socket, Socket]> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const client = connect((server.address() as AddressInfo).port, '127.0.0.1')
  const [accepted] = (await once(server, 'connection')) as [Socket]
  t.teardown(() => {
    for (const socket of [client, accepted]) socket.destroy()
    server.close()
  })
  return [client, accepted]
}

t.test(
  'an open connection is probed after five minutes of silence, from its first round on',
  linux,
  async (t) => {
    const clock = new HandClock()
    const table = new ConnectionTable({
      clock,
      logger: silentLogger,
      capacity: 8,
      accessLog: () => {},
      isUpstream: () => false,
    })
    const [, accepted] = await pair(t)
    const service = { host: '', port: 0, protocol: '' } as never
    const init = { listener: 'eastwest', service, remoteAddress: '' }
    const connection = table.admit(init, { phase: 'handshake' })
    if (connection === undefined) throw new Error('not admitted')
    connection.downstream = plainEnd(accepted)
    t.equal(probeIn(accepted), undefined, 'whoever is gone before his first round costs nothing')
    clock.advance(ROUND_MS)
    t.ok(Math.abs((probeIn(accepted) ?? 0) - 300) < 30, `${probeIn(accepted)} s`)
  },
)
