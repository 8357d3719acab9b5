// Passive health checking: Envoy's rules, on a clock that is moved by hand.
import t from 'tap'
import { silentLogger } from '../../src/lib/log.ts'
import { Endpoint } from '../../src/proxy/endpoint.ts'
import { OutlierDetector } from '../../src/proxy/health/outlier-detector.ts'
import type { EndpointConfig } from '../../src/resources/accept-types.ts'
import type { OutlierConfig } from '../../src/resources/upstream-types.ts'
import { HandClock } from './hand-clock.ts'

const CONFIG: OutlierConfig = {
  consecutiveFailures: 3,
  enforcingConsecutive: 100,
  consecutiveGatewayFailures: 0,
  enforcingGatewayFailures: 0,
  intervalMs: 10_000,
  baseEjectionMs: 30_000,
  maxEjectionMs: 100_000,
  maxEjectionJitterMs: 0,
  maxEjectionPercent: 100,
  alwaysEjectOne: false,
  healthCheckUnejects: true,
  successRate: { enforcing: 0, minimumHosts: 3, volume: 10, stdevFactor: 1_000 },
  failurePercentage: { enforcing: 0, threshold: 80, minimumHosts: 2, volume: 5 },
}

function endpointAt(port: number): Endpoint {
  const config: EndpointConfig = {
    address: { host: '10.0.0.1', port },
    hostname: '',
    weight: 1,
    healthStatus: 'HEALTHY',
    socketMetadata: {},
    hashKey: '',
    healthCheck: { host: '', port: 0, hostname: '', disabled: false },
  }
  return new Endpoint(config, '10.0.0.1')
}

function world(config: Partial<OutlierConfig> = {}, count = 4, random: () => number = () => 0) {
  const clock = new HandClock()
  const endpoints = Array.from({ length: count }, (_, i) => endpointAt(i + 1))
  const changes: string[] = []
  const detector = new OutlierDetector({
    clock,
    logger: silentLogger,
    random,
    upstream: 'u',
    endpoints: () => endpoints,
    onChange: ({ port }, ejected) => changes.push(`${port} ${ejected ? 'out' : 'back'} at ${clock.now()}`),
  })
  detector.configure({ ...CONFIG, ...config })
  const [a, b, c, d] = endpoints as [Endpoint, Endpoint, Endpoint, Endpoint]
  const fail = (endpoint: Endpoint, times: number) => {
    for (let i = 0; i < times; i += 1) detector.failed(endpoint, 'refused')
  }
  return { clock, detector, endpoints, changes, a, b, c, d, fail }
}

t.test('so many failures in a row, and a success between begins anew', async (t) => {
  const { detector, changes, a, fail, clock } = world()
  fail(a, 2)
  detector.succeeded(a)
  fail(a, 2)
  t.same([changes, detector.status(a).consecutiveFailures], [[], 2])
  fail(a, 1)
  t.same(changes, ['1 out at 0'])
  t.equal(a.health, 'unhealthy')
  fail(a, 10)
  t.equal(changes.length, 1, 'once out, nothing more is done')
  clock.advance(30_000)
  t.same(changes, ['1 out at 0', '1 back at 30000'])
  t.equal(a.health, 'healthy')
})

t.test(
  'each ejection in a row lasts longer, up to the maximum; time that goes well is forgiven',
  async (t) => {
    const { a, changes, clock, fail } = world()
    for (const ms of [30_000, 60_000, 90_000, 100_000]) {
      fail(a, 3)
      const outMs = clock.now()
      clock.advance(ms)
      t.equal(changes.at(-1), `1 back at ${outMs + ms}`)
    }
    // Four ejections, less one for each of two intervals, plus this one: three times as long.
    clock.advance(20_000)
    fail(a, 3)
    const outMs = clock.now()
    clock.advance(90_000)
    t.equal(changes.at(-1), `1 back at ${outMs + 90_000}`)
  },
)

t.test('no more than max_ejection_percent, but always one where that is asked for', async (t) => {
  const half = world({ maxEjectionPercent: 50 })
  for (const endpoint of half.endpoints) half.fail(endpoint, 3)
  t.same(half.changes, ['1 out at 0', '2 out at 0'], 'two of four are 50 %')
  const tenth = world({ maxEjectionPercent: 10 })
  tenth.fail(tenth.a, 3)
  t.same(tenth.changes, [], 'one of four is more than 10 %')
  const one = world({ maxEjectionPercent: 10, alwaysEjectOne: true })
  one.fail(one.a, 3)
  one.fail(one.b, 3)
  t.same(one.changes, ['1 out at 0'])
})

t.test('enforcing percentages, jitter, gateway failures', async (t) => {
  // The second is for the jitter of the first ejection.
  const draws = [0.49, 0, 0.5]
  const half = world({ enforcingConsecutive: 50 }, 4, () => draws.shift() ?? 0)
  half.fail(half.a, 3)
  half.fail(half.b, 3)
  t.same(half.changes, ['1 out at 0'], 'by chance, and this is the seeded one')
  const never = world({ enforcingConsecutive: 0 })
  never.fail(never.a, 30)
  t.same(never.changes, [])
  const jitter = world({ maxEjectionJitterMs: 1_000 }, 4, () => 0.5)
  jitter.fail(jitter.a, 3)
  jitter.clock.advance(60_000)
  t.same(jitter.changes, ['1 out at 0', '1 back at 30500'])
  const gateway = world({
    consecutiveFailures: 0,
    consecutiveGatewayFailures: 2,
    enforcingGatewayFailures: 100,
  })
  gateway.fail(gateway.a, 2)
  t.same(gateway.changes, ['1 out at 0'])
})

t.test('success rates: who is far below the mean of the others', async (t) => {
  const rates = { enforcing: 100, minimumHosts: 3, volume: 10, stdevFactor: 1_000 }
  const { detector, endpoints, changes, clock, d } = world({ consecutiveFailures: 0, successRate: rates })
  const round = (failures: readonly number[]) => {
    for (const [i, endpoint] of endpoints.entries())
      for (let n = 0; n < 10; n += 1) {
        if (n < (failures[i] ?? 0)) detector.failed(endpoint, 'refused')
        else detector.succeeded(endpoint)
      }
    clock.advance(10_000)
  }
  round([0, 0, 0, 0])
  t.same(changes, [])
  t.equal(detector.status(d).successRate, 100)
  round([0, 0, 1, 6])
  t.same(changes, ['4 out at 20000'])
  t.equal(clock.pending, 1, 'its return, and no sweep while nothing happens')
  const few = world({ consecutiveFailures: 0, successRate: { ...rates, minimumHosts: 5 } })
  for (let n = 0; n < 10; n += 1) few.detector.failed(few.a, 'refused')
  few.clock.advance(10_000)
  t.same(few.changes, [], 'too few hosts to compare')
})

t.test('failure percentage: by itself', async (t) => {
  const failurePercentage = { enforcing: 100, threshold: 80, minimumHosts: 2, volume: 5 }
  const { detector, changes, clock, a, b } = world({ consecutiveFailures: 0, failurePercentage })
  for (let n = 0; n < 5; n += 1) {
    if (n === 0) detector.succeeded(a)
    else detector.failed(a, 'refused')
    if (n < 2) detector.succeeded(b)
    else detector.failed(b, 'refused')
  }
  clock.advance(10_000)
  t.same(changes, ['1 out at 10000'], '80 % of one, 60 % of the other')
})

t.test(
  'a passed health check brings it back, unless that is switched off; so does the end of the configuration',
  async (t) => {
    const yes = world()
    yes.fail(yes.a, 3)
    yes.clock.advance(5_000)
    yes.detector.checkPassed(yes.a)
    t.same(yes.changes, ['1 out at 0', '1 back at 5000'])
    const no = world({ healthCheckUnejects: false })
    no.fail(no.a, 3)
    no.detector.checkPassed(no.a)
    t.same(no.changes, ['1 out at 0'])
    no.detector.configure(undefined)
    t.same([no.changes.length, no.a.health, no.clock.pending], [2, 'healthy', 0])
  },
)
