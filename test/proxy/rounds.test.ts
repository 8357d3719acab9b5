// What a connection is watched for as long as it is open costs it no timer: idle time-outs and the ends of certificates.
import t from 'tap'
import type { VerifiedSvid } from '../../src/identity/verify-svid.ts'
import { Connection } from '../../src/proxy/connection.ts'
import { watchExpiry } from '../../src/proxy/expiry.ts'
import { IDLE_TICKS, idleTicks } from '../../src/proxy/idle-ticks.ts'
import type { Caller } from '../../src/proxy/rbac.ts'
import { ROUND_MS, Rounds } from '../../src/proxy/rounds.ts'
import { HandClock } from './hand-clock.ts'

const HOUR_MS = 3_600_000

/** Connections whose clients' certificates end at these times; when each of them ended. */
function expiring(...timesMs: number[]) {
  const clock = new HandClock()
  const ends: [string, number][] = []
  const connections = new Set<Connection>()
  const owner = {
    clock,
    onEnd: (connection: Connection) => {
      connections.delete(connection)
      const { state } = connection
      ends.push([state.phase === 'ended' ? state.ending.flag : '', clock.now()])
    },
  }
  const rounds = new Rounds(clock, connections, (connection) => watchExpiry(connection, clock.now()))
  for (const notAfterMs of timesMs) {
    const service = { host: '', port: 0, protocol: '' } as never
    const init = { listener: 'eastwest', service, remoteAddress: '' }
    const connection = new Connection(init, owner, { phase: 'connecting' })
    const svid = { id: { uri: 'spiffe://a/b', trustDomain: 'a' }, notAfterMs } as unknown as VerifiedSvid
    connection.peer = { caller: {} as Caller, proof: { svid, atMs: 0 } }
    connections.add(connection)
    watchExpiry(connection, clock.now())
  }
  rounds.wake()
  return { clock, ends, connections }
}

t.test('connections end with the certificates of their clients, to the millisecond', async (t) => {
  const { clock, ends } = expiring(HOUR_MS, 5, 7_001, HOUR_MS)
  clock.advance(2 * HOUR_MS)
  t.same(ends, [
    ['ID_EXPIRED', 5],
    ['ID_EXPIRED', 7_001],
    ['ID_EXPIRED', HOUR_MS],
    ['ID_EXPIRED', HOUR_MS],
  ])
  t.equal(clock.pending, 0, 'and nothing is watched when none is left')
})

t.test('a thousand connections for an hour need one timer', async (t) => {
  const { clock, connections } = expiring(...new Array<number>(1_000).fill(HOUR_MS))
  t.equal(clock.pending, 1)
  clock.advance(HOUR_MS / 2)
  t.same([clock.pending, connections.size], [1, 1_000])
})

t.test('who stays is looked at once in each round, however fast others come and go', async (t) => {
  const clock = new HandClock()
  const stays = { name: 'stays' } as unknown as Connection
  const connections = new Set([stays])
  const looksMs: number[] = []
  const rounds = new Rounds(clock, connections, (connection) => {
    if (connection === stays) looksMs.push(clock.now())
  })
  rounds.wake()
  for (let ms = 0; ms < 20 * ROUND_MS; ms += 10) {
    const comes = { name: `from ${ms}` } as unknown as Connection
    connections.add(comes)
    clock.after(1_000, () => connections.delete(comes))
    clock.advance(10)
  }
  const gapsMs = looksMs.slice(1).map((at, i) => at - (looksMs[i] ?? 0))
  t.same(gapsMs, new Array<number>(19).fill(ROUND_MS))
})

t.test('who came between two ticks is told all eight after the first', async (t) => {
  const clock = new HandClock()
  const ticks = idleTicks(clock, 800)
  const seen: number[] = []
  const first = { tick: () => {} }
  const second = { tick: () => void seen.push(clock.now()) }
  ticks.add(first)
  clock.advance(99)
  ticks.add(second)
  t.equal(clock.pending, 1, 'one timer for both')
  t.equal(idleTicks(clock, 800), ticks, 'for whoever has the same time-out')
  clock.advance(1 + 800)
  t.same(
    seen,
    Array.from({ length: 1 + IDLE_TICKS }, (_, at) => 100 + 100 * at),
  )
  ticks.delete(first)
  ticks.delete(second)
  t.equal(clock.pending, 0)
})
