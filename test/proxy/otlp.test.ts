import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { createServer, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import t from 'tap'
import type { Clock } from '../../src/lib/clock.ts'
import { silentLogger } from '../../src/lib/log.ts'
import { VERSION } from '../../src/lib/version.ts'
import type { AccessLogEntry } from '../../src/proxy/access-log.ts'
import { OtlpExporter, type OtlpExporterOptions } from '../../src/proxy/otlp-exporter.ts'
import { ENTRY } from './access-log-entry.ts'

interface Scope {
  teardown(end: () => unknown): void
}

interface Span {
  readonly traceId: string
  readonly spanId: string
  readonly name: string
  readonly startTimeUnixNano: string
  readonly endTimeUnixNano: string
  readonly attributes: readonly { readonly key: string; readonly value: Record<string, string> }[]
  readonly status: { readonly code?: number; readonly message?: string }
}

/** A collector: `answer` decides about each request; the spans of those that are taken are kept. */
async function collector(scope: Scope, answer: (response: ServerResponse, nth: number) => void) {
  const batches: Span[][] = []
  const seen: { path: string; type: string }[] = []
  const waiting = new Set<() => void>()
  let requests = 0
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = []
    for await (const chunk of request) chunks.push(chunk as Buffer)
    seen.push({ path: request.url ?? '', type: request.headers['content-type'] ?? '' })
    const { resourceSpans } = JSON.parse(Buffer.concat(chunks).toString())
    requests += 1
    response.once('finish', () => {
      if (response.statusCode === 200) batches.push(resourceSpans[0].scopeSpans[0].spans)
      for (const check of waiting) check()
    })
    answer(response, requests)
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  scope.teardown(() => {
    server.closeAllConnections()
    server.close()
  })
  return {
    endpoint: new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}`),
    batches,
    seen,
    /** Resolves once that many spans were taken. */
    spans: (count: number) =>
      new Promise<Span[]>((resolve) => {
        const check = () => {
          if (batches.flat().length >= count) resolve(batches.flat())
        }
        waiting.add(check)
        check()
      }),
  }
}

/** Time that passes at once: what is to happen later happens now. */
const impatient: Clock = {
  now: () => Date.now(),
  after: (ms, callback) => {
    const timer = setTimeout(callback, ms > 5_000 ? ms : 0)
    return () => clearTimeout(timer)
  },
}

const ok = (response: ServerResponse): void => void response.end('{}')

function exporter(endpoint: URL, more: Partial<OtlpExporterOptions> = {}): OtlpExporter {
  const resource = { name: 'gateway', cluster: 'cluster-1' }
  return new OtlpExporter({ endpoint, sample: 1, resource, logger: silentLogger, clock: impatient, ...more })
}

t.test('a connection is a span with what the access log says', async (t) => {
  const { endpoint, spans, seen } = await collector(t, ok)
  const sender = exporter(endpoint)
  sender.record(ENTRY)
  sender.record({ ...ENTRY, flag: 'RBAC_DENIED', reason: 'no policy matches', endpoint: '' })
  const [good, denied] = await spans(2)
  t.same(seen[0], { path: '/v1/traces', type: 'application/json' })
  t.match(good, { name: 'connection', traceId: /^[0-9a-f]{32}$/, spanId: /^[0-9a-f]{16}$/, status: {} })
  t.notSame(good?.traceId, denied?.traceId)
  t.equal(BigInt(good?.endTimeUnixNano ?? 0) - BigInt(good?.startTimeUnixNano ?? 0), 12_000_000n)
  const attributes = Object.fromEntries(
    good?.attributes.map(({ key, value }) => [key, Object.values(value)[0]]) ?? [],
  )
  t.match(attributes, {
    'server.address': ENTRY.host,
    'server.port': '9080',
    'network.peer.address': ENTRY.endpoint,
    'tls.client.server_name': ENTRY.sni,
    'isthmus.peer_id': ENTRY.peerId,
    'isthmus.rule': 'everyone',
    'isthmus.bytes_in': '5',
    'isthmus.flag': '-',
  })
  t.match(denied?.status, { code: 2, message: 'RBAC_DENIED: no policy matches' })
  t.notOk(
    denied?.attributes.some(({ key }) => key === 'network.peer.address'),
    'what is not known is left out',
  )
  await sender.close(0)
})

t.test('a share of them, in batches', async (t) => {
  const { endpoint, spans, batches } = await collector(t, ok)
  let turn = 0
  const sender = exporter(endpoint, { sample: 0.25, random: () => (turn++ % 4) / 4 })
  for (let n = 0; n < 800; n += 1) sender.record(ENTRY)
  t.equal((await spans(200)).length, 200)
  t.ok(batches.every(({ length }) => length <= 64))
  t.ok(batches.length < 10, `${batches.length} requests`)
  await sender.close(0)
  t.same(sender.counts, { sent: 200, dropped: 0 })
})

t.test('a collector that does not answer costs what does not fit, and nothing else', async (t) => {
  const { endpoint } = await collector(t, () => {})
  const sender = exporter(endpoint, { capacity: 100 })
  for (let n = 0; n < 64; n += 1) sender.record(ENTRY)
  // They are on their way now, and their answer is not.
  await new Promise((resolve) => setImmediate(resolve))
  for (let n = 0; n < 500; n += 1) sender.record(ENTRY)
  t.same(sender.counts, { sent: 0, dropped: 400 })
  await sender.close(50)
  t.equal(sender.counts.sent, 0)
})

t.test('what may be tried again is; what the collector refuses is dropped', async (t) => {
  const { endpoint, spans } = await collector(t, (response, nth) => {
    if (nth === 1) response.statusCode = 503
    if (nth === 2) {
      response.destroy()
      return
    }
    if (nth === 4) response.statusCode = 400
    response.end()
  })
  const sender = exporter(endpoint)
  sender.record(ENTRY)
  t.equal((await spans(1)).length, 1)
  for (let n = 0; n < 3; n += 1) sender.record(ENTRY as AccessLogEntry)
  await sender.close(5_000)
  t.same(sender.counts, { sent: 1, dropped: 3 })
})

t.test('the version is that of the package', async (t) => {
  const manifest = readFileSync(new URL('../../package.json', import.meta.url), 'utf8')
  t.equal(VERSION, (JSON.parse(manifest) as { version: string }).version)
})
