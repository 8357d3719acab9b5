// Host names of endpoints, against a real DNS server on loopback.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import type { Clock } from '../../src/lib/clock.ts'
import { silentLogger } from '../../src/lib/log.ts'
import { createResolve, shared } from '../../src/proxy/resolve.ts'
import { NameResolver } from '../../src/proxy/resolver.ts'
import type { DnsConfig } from '../../src/resources/upstream-types.ts'
import { DnsServer, type Zone } from './test-dns-server.ts'

/** A clock whose timers are fired by hand; it remembers how long they were to be. */
class HandClock implements Clock {
  nowMs = 0
  readonly delays: number[] = []
  readonly #timers = new Set<() => void>()

  now(): number {
    return this.nowMs
  }
  after(ms: number, callback: () => void): () => void {
    this.delays.push(ms)
    this.#timers.add(callback)
    return () => this.#timers.delete(callback)
  }
  fire(): void {
    for (const timer of [...this.#timers]) {
      this.#timers.delete(timer)
      timer()
    }
  }
  get pending(): number {
    return this.#timers.size
  }
}

const DNS: DnsConfig = {
  refreshMs: 5_000,
  failureBaseMs: 1_000,
  failureMaxMs: 8_000,
  respectTtl: true,
  family: 'ALL',
}

async function world() {
  const server = new DnsServer()
  const servers = [await server.listen()]
  const clock = new HandClock()
  let changes = 0
  const waiters: (() => void)[] = []
  const ask = createResolve({ servers, timeoutMs: 500, hostsFile: '/does/not/exist' })
  const resolver = new NameResolver({
    clock,
    logger: silentLogger,
    random: () => 1 - Number.EPSILON,
    onChange: () => {
      changes += 1
    },
    resolve: (host, family) => {
      const answer = ask(host, family)
      const told = () => setImmediate(() => waiters.shift()?.())
      answer.then(told, told)
      return answer
    },
  })
  return {
    server,
    clock,
    resolver,
    ask,
    get changes() {
      return changes
    },
    /** Resolves when the next answer is worked in. */
    answered: () => new Promise<void>((resolve) => waiters.push(resolve)),
  }
}

t.test(
  'the TTL says when to ask again; the last good answer stays while a name does not resolve',
  async (t) => {
    const { server, clock, resolver, ask: _, ...rest } = await world()
    const answered = rest.answered
    server.zone = { rcode: 'SERVFAIL' }
    let told = answered()
    resolver.watch(new Set(['lb.example', '10.0.0.1']), DNS)
    t.same(resolver.addresses('10.0.0.1'), ['10.0.0.1'], 'an address is its own answer')
    await told
    t.same(resolver.addresses('lb.example'), [])
    t.match(resolver.error('lb.example'), /lb\.example does not resolve: .*SERVFAIL/)
    t.ok((clock.delays.at(-1) ?? 0) <= 1_000, 'a failure is tried again after the failure interval')
    const step = async (zone: Zone, advanceMs = 1_000): Promise<readonly string[]> => {
      server.zone = zone
      clock.nowMs += advanceMs
      told = answered()
      clock.fire()
      await told
      return resolver.addresses('lb.example')
    }
    const good: Zone = { A: ['192.0.2.2', '192.0.2.1'], AAAA: ['2001:db8::1'], ttl: 30 }
    const all = ['192.0.2.1', '192.0.2.2', '2001:db8::1']
    t.same(await step(good), all)
    t.equal(clock.delays.at(-1), 30_000, 'the TTL')
    t.same(await step({ rcode: 'SERVFAIL' }), all, 'a failure takes nothing away')
    t.match(resolver.status(), [
      { host: 'lb.example', addresses: all, ageMs: 1_000, error: /does not resolve/ },
    ])
    t.same(await step({ rcode: 'SERVFAIL' }), all)
    t.ok((clock.delays.at(-1) ?? 0) > 1_000, 'backing off')
    t.same(await step(good), all)
    t.same(resolver.status()[0]?.error, '')
    t.same(await step({ rcode: 'NXDOMAIN' }), all, 'nor does one answer that there is nothing')
    t.same(await step({}), all, 'nor two')
    t.same(await step({}), [], 'three do')
    t.same(await step({ A: ['192.0.2.9'], ttl: 0 }), ['192.0.2.9'])
    t.equal(clock.delays.at(-1), 5_000, 'a TTL of 0 says nothing: dns_refresh_rate')
    t.equal(resolver.error('lb.example'), '')
    resolver.watch(new Set(), DNS)
    t.same(resolver.addresses('lb.example'), [], 'forgotten')
    t.equal(clock.pending, 0, 'and not asked for again')
    await server.close()
  },
)

t.test('a server that is gone', async (t) => {
  const { server, clock, resolver, answered } = await world()
  server.zone = { A: ['192.0.2.1'] }
  let told = answered()
  resolver.watch(new Set(['lb.example']), DNS)
  await told
  await server.close()
  told = answered()
  clock.fire()
  await told
  t.same(resolver.addresses('lb.example'), ['192.0.2.1'])
  t.match(resolver.status()[0]?.error, /does not resolve/)
  resolver.close()
})

t.test('an alias: its own TTL counts too', async (t) => {
  const { server, ask } = await world()
  server.zone = { alias: 'real.example', A: ['192.0.2.1'], ttl: 60, aliasTtl: 20 }
  t.same(await ask('lb.example', 'V4_ONLY'), { addresses: ['192.0.2.1'], ttlMs: 20_000 })
  await server.close()
})

t.test('each lookup family, as Envoy has them', async (t) => {
  const { server, ask } = await world()
  const both: Zone = { A: ['192.0.2.1'], AAAA: ['2001:db8::1'] }
  const v4: Zone = { A: ['192.0.2.1'] }
  for (const [family, zone, expected] of [
    ['AUTO', both, ['2001:db8::1']],
    ['AUTO', v4, ['192.0.2.1']],
    ['V4_PREFERRED', both, ['192.0.2.1']],
    ['V4_PREFERRED', { AAAA: ['2001:db8::1'] }, ['2001:db8::1']],
    ['V4_ONLY', both, ['192.0.2.1']],
    ['V6_ONLY', both, ['2001:db8::1']],
    ['V6_ONLY', v4, []],
    ['ALL', both, ['192.0.2.1', '2001:db8::1']],
  ] as const) {
    server.zone = zone
    t.same((await ask('lb.example', family)).addresses, expected, `${family} of ${Object.keys(zone)}`)
  }
  server.zone = { rcode: 'SERVFAIL' }
  await t.rejects(ask('lb.example', 'ALL'), 'no answer at all is a failure, not an empty answer')
  await server.close()
})

t.test('the hosts file goes first; many who ask at one time ask once', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'isthmus-hosts-'))
  t.teardown(() => rmSync(folder, { recursive: true }))
  const hostsFile = join(folder, 'hosts')
  writeFileSync(hostsFile, '# a comment\n192.0.2.7 Lb.Example other # said here\n2001:db8::7 lb.example\n')
  const server = new DnsServer()
  const ask = createResolve({ servers: [await server.listen()], hostsFile })
  t.same((await ask('lb.example', 'ALL')).addresses, ['192.0.2.7', '2001:db8::7'])
  t.same((await ask('LB.example', 'V4_ONLY')).addresses, ['192.0.2.7'])
  t.equal(server.asked.length, 0)
  server.zone = { A: ['192.0.2.1'] }
  const clock = new HandClock()
  const together = shared(ask, clock)
  const answers = await Promise.all(Array.from({ length: 100 }, () => together('one.example', 'V4_ONLY')))
  t.equal(
    answers.every(({ addresses }) => addresses[0] === '192.0.2.1'),
    true,
  )
  t.equal(server.asked.length, 1)
  let inFlight = 0
  let most = 0
  const slow = shared(async () => {
    most = Math.max(most, ++inFlight)
    await new Promise((resolve) => setImmediate(resolve))
    inFlight -= 1
    return { addresses: [], ttlMs: undefined }
  }, clock)
  await Promise.all(Array.from({ length: 500 }, (_, i) => slow(`${i}.example`, 'ALL')))
  t.equal(most, 64, 'and not everything at once')
  clock.fire()
  await together('one.example', 'V4_ONLY')
  t.equal(server.asked.length, 2, 'later it is asked again')
  await server.close()
})
