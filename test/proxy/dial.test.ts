// One endpoint after the other: whose fault a failure is, and when there is no point in going on.
import { once } from 'node:events'
import { Socket } from 'node:net'
import t from 'tap'
import { silentLogger } from '../../src/lib/log.ts'
import { fail, ok, type Result } from '../../src/lib/result.ts'
import type { ConnectFailure } from '../../src/proxy/connector.ts'
import { Dialer } from '../../src/proxy/dial.ts'
import { ProbeGate } from '../../src/proxy/health/probe-gate.ts'
import type { PumpEnd } from '../../src/proxy/pump.ts'
import { Upstream } from '../../src/proxy/upstream.ts'
import { acceptEndpoints } from '../../src/resources/accept-endpoints.ts'
import { acceptUpstream } from '../../src/resources/accept-upstream.ts'
import { HandClock } from './hand-clock.ts'
import { assignmentOf, clusterOf } from './upstream-resource.ts'

function world(
  answers: readonly Result<PumpEnd, ConnectFailure>[],
  endpoints = 3,
  cluster: Parameters<typeof clusterOf>[1] = {},
) {
  const clock = new HandClock()
  const called: string[] = []
  const left = [...answers]
  const connector = {
    connect: async (host: string, port: number) => {
      called.push(`${host}:${port} at ${clock.now()}`)
      return left.shift() ?? fail({ kind: 'network' as const, code: 'ECONNREFUSED', detail: 'refused' })
    },
  }
  const config = acceptUpstream(
    clusterOf('u', {
      lbPolicy: 'ROUND_ROBIN',
      outlierDetection: {
        splitExternalLocalOriginErrors: true,
        consecutiveLocalOriginFailure: 1,
        maxEjectionPercent: 100,
        enforcingLocalOriginSuccessRate: 0,
      },
      ...cluster,
    }),
  )
  const specs = Array.from({ length: endpoints }, (_, i) => ({ host: '10.0.0.1', port: i + 1 }))
  const assignment = acceptEndpoints(assignmentOf('u', specs))
  if (!config.ok || !assignment.ok) throw new Error('refused')
  const random = () => 0
  const upstream = new Upstream(config.value, {
    clock,
    logger: silentLogger,
    random,
    resolve: async () => ({ addresses: [], ttlMs: undefined }),
    connector,
    gate: new ProbeGate(1),
    forbidden: () => undefined,
  })
  upstream.setEndpoints(assignment.value)
  const dialer = new Dialer({ clock, connector, random, isOwnListener: () => false })
  return { clock, called, upstream, dialer }
}

const local = (code: string): Result<PumpEnd, ConnectFailure> =>
  fail({ kind: 'local', code, detail: `ours (${code})` })
const refused: Result<PumpEnd, ConnectFailure> = fail({
  kind: 'network',
  code: '',
  detail: 'refused the connection',
})

t.test(
  'no descriptor left: nobody else is tried, nothing is held against anybody, and the code is counted',
  async (t) => {
    const { dialer, upstream, called } = world([local('EMFILE')])
    t.match(await dialer.dial(upstream, { attempts: 3 }).result, {
      ok: false,
      error: { flag: 'UF', reason: /EMFILE/ },
    })
    t.equal(called.length, 1)
    const status = upstream.status()
    t.match(status, { counters: { cxTotal: 1, cxConnectFail: 0, cxLocalFail: { EMFILE: 1 } } })
    t.ok(
      status.endpoints.every(
        ({ healthy, cxConnectFail, active }) => healthy && cxConnectFail === 0 && active === 0,
      ),
    )
  },
)

t.test('no port left towards one endpoint: another may have some', async (t) => {
  const socket = new Socket()
  const { dialer, upstream, called } = world([local('EADDRNOTAVAIL'), ok({ raw: socket, stream: socket })])
  t.match(await dialer.dial(upstream, { attempts: 3 }).result, { ok: true })
  t.same(called, ['10.0.0.1:1 at 0', '10.0.0.1:2 at 0'])
  t.match(upstream.status(), {
    counters: { cxLocalFail: { EADDRNOTAVAIL: 1 }, cxRetry: 1 },
    circuitBreakers: { connections: 1, pending: 0, retries: 0 },
  })
  socket.destroy()
})

t.test('a connection that is gone when it is there is none: nothing of it stays counted', async (t) => {
  const [gone, socket] = [new Socket(), new Socket()]
  gone.destroy()
  await once(gone, 'close')
  const { dialer, upstream, called } = world([
    ok({ raw: gone, stream: gone }),
    ok({ raw: socket, stream: socket }),
  ])
  t.match(await dialer.dial(upstream, { attempts: 3 }).result, { ok: true, value: { raw: socket } })
  t.equal(called.length, 2)
  socket.destroy()
  await once(socket, 'close')
  t.match(upstream.status(), {
    counters: { cxConnectFail: 1 },
    circuitBreakers: { connections: 0, pending: 0, retries: 0 },
  })
})

t.test('each endpoint once, the failed ones ejected, and the last failure is told', async (t) => {
  const { dialer, upstream, called } = world([refused, refused, refused])
  t.match(await dialer.dial(upstream, { attempts: 9 }).result, {
    error: { flag: 'UF', reason: /10\.0\.0\.1:3 refused the connection/ },
  })
  t.equal(called.length, 3)
  t.ok(upstream.status().endpoints.every(({ healthFlags }) => healthFlags[0] === 'failed_outlier_check'))
  t.match(await dialer.dial(upstream, { attempts: 9 }).result, { error: { flag: 'UH', reason: /ejected/ } })
})

t.test('a PROXY header that cannot be said is the end of one connection', async (t) => {
  const transportSocket = {
    name: 'p',
    typedConfig: {
      '@type':
        'type.googleapis.com/envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport',
      config: { version: 'V2', passThroughTlvs: {} },
      transportSocket: {
        name: 'raw',
        typedConfig: {
          '@type': 'type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer',
        },
      },
    },
  }
  const { dialer, upstream, called } = world([], 3, { transportSocket })
  const tlvs = [{ type: 2, value: Buffer.alloc(65_530) }]
  const end = { host: '192.0.2.1', port: 1 }
  const proxied = () => ({ connection: { source: end, destination: end }, tlvs })
  t.match(await dialer.dial(upstream, { attempts: 3, proxied }).result, {
    ok: false,
    error: { flag: 'UF', reason: /longer than 65,535 bytes/ },
  })
  t.equal(called.length, 0)
})

t.test('backoff_options: a delay before each further attempt, which ends with its connection', async (t) => {
  const { clock, dialer, upstream, called } = world([refused, refused, refused])
  const dial = dialer.dial(upstream, { attempts: 3, backoff: { baseMs: 100, maxMs: 150 } })
  const turn = () => new Promise((resolve) => setImmediate(resolve))
  for (let ms = 0; ms < 200; ms += 25) {
    await turn()
    clock.advance(25)
  }
  await dial.result
  // Half of 100, then half of the ceiling, rounded up to when the clock was looked at.
  t.same(called, ['10.0.0.1:1 at 0', '10.0.0.1:2 at 50', '10.0.0.1:3 at 125'])
  const other = world([refused, refused])
  const cancelled = other.dialer.dial(other.upstream, { attempts: 3, backoff: { baseMs: 100, maxMs: 150 } })
  await turn()
  cancelled.cancel()
  t.match(await cancelled.result, { ok: false })
  t.equal(other.called.length, 1)
})
