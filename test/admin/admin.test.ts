import { once } from 'node:events'
import { request } from 'node:http'
import { connect } from 'node:net'
import t from 'tap'
import { healthRoutes } from '../../src/admin/health.ts'
import { type AdminRoute, AdminServer } from '../../src/admin/http.ts'
import { Metrics } from '../../src/admin/metrics.ts'

interface Scope {
  teardown(end: () => unknown): void
}

async function serve(scope: Scope, routes: Record<string, AdminRoute>): Promise<string> {
  const server = new AdminServer({ routes })
  const { host, port } = await server.listen('127.0.0.1', 0)
  scope.teardown(() => server.close())
  return `http://${host}:${port}`
}

t.test('objects are sent as JSON, strings as text, with status and query', async (t) => {
  const url = await serve(t, {
    '/status': async (query, method) => ({
      body: { who: query.get('who'), method, map: new Map([['a', 1n]]) },
    }),
    '/text': async () => ({ status: 418, body: 'short and stout' }),
  })
  const json = await fetch(`${url}/status?who=me`)
  t.match(json.headers.get('content-type'), /application\/json/)
  t.same(await json.json(), { who: 'me', method: 'GET', map: { a: '1' } })
  const text = await fetch(`${url}/text`, { method: 'POST', body: 'ignored' })
  t.equal(text.status, 418)
  t.equal(await text.text(), 'short and stout')
})

t.test('an unknown path lists what there is; a route that throws is a 500 with its message', async (t) => {
  const url = await serve(t, {
    '/a': async () => ({ body: 'a' }),
    '/bad': async () => {
      throw new Error('no luck')
    },
  })
  const missing = await fetch(`${url}/toString`)
  t.equal(missing.status, 404)
  t.match(await missing.text(), '/a\n/bad')
  const bad = await fetch(`${url}/bad`)
  t.equal(bad.status, 500)
  t.match(await bad.text(), 'no luck')
})

t.test('a web page reaches nothing on loopback', async (t) => {
  let calls = 0
  const url = await serve(t, {
    '/drain': async () => {
      calls++
      return { body: 'drained' }
    },
  })
  const ask = (headers: Record<string, string>) =>
    new Promise<number | undefined>((resolve, reject) => {
      request(`${url}/drain`, { method: 'POST', headers, agent: false }, (response) => {
        response.resume().on('end', () => resolve(response.statusCode))
      })
        .on('error', reject)
        .end()
    })
  t.equal(await ask({ origin: 'https://evil.example' }), 403)
  t.equal(await ask({ host: 'rebound.evil.example:15000' }), 403)
  for (const site of ['cross-site', 'same-site']) t.equal(await ask({ 'sec-fetch-site': site }), 403)
  t.equal(calls, 0)
  t.equal(await ask({ host: '127.0.0.1:15000' }), 200)
  t.equal(await ask({ host: '[::1]:15000' }), 200)
  for (const site of ['none', 'same-origin']) t.equal(await ask({ 'sec-fetch-site': site }), 200)
  t.equal(calls, 4)
})

t.test('health: 503 with the list of what is pending, then 200 with an empty one', async (t) => {
  const pending = ['credentials', 'listeners']
  const url = await serve(t, healthRoutes({ pending: () => pending }))
  t.equal((await fetch(`${url}/livez`)).status, 200)
  const before = await fetch(`${url}/readyz`)
  t.equal(before.status, 503)
  t.same(await before.json(), ['credentials', 'listeners'])
  pending.length = 0
  const after = await fetch(`${url}/readyz`)
  t.equal(after.status, 200)
  t.same(await after.json(), [])
})

t.test('metrics are read at the scrape, never added up', async (t) => {
  let open = 1
  let refreshed = 0
  const metrics = new Metrics({ processMetrics: false, refresh: async () => void refreshed++ })
  metrics.gauge({ name: 'isthmus_open', help: 'Open.', collect: () => [{ value: open }] })
  metrics.counter({
    name: 'isthmus_connections_total',
    help: 'Ended.',
    labels: ['flag'],
    collect: () =>
      open === 1 ? [{ labels: { flag: 'UH' }, value: 3 }] : [{ labels: { flag: 'NR' }, value: 4 }],
  })
  const url = await serve(t, metrics.routes())
  await fetch(`${url}/metrics`)
  const first = await (await fetch(`${url}/metrics`)).text()
  t.match(first, 'isthmus_connections_total{flag="UH"} 3\n', 'two scrapes do not double the count')
  t.match(first, 'isthmus_open 1\n')
  open = 2
  const second = await (await fetch(`${url}/metrics`)).text()
  t.match(second, 'isthmus_connections_total{flag="NR"} 4\n')
  t.notMatch(second, 'flag="UH"', 'labels that are gone are gone')
  t.equal(refreshed, 3)
})

t.test('an address in use is an error, not a crash', async (t) => {
  const first = new AdminServer({ routes: {} })
  const { port } = await first.listen('127.0.0.1', 0)
  const second = new AdminServer({ routes: {} })
  await t.rejects(second.listen('127.0.0.1', port), { code: 'EADDRINUSE' })
  await first.close()
  await first.close()
})

t.test('a client that is slow, or one of too many, is cut', async (t) => {
  const url = new URL(await serve(t, { '/livez': async () => ({ body: 'ok' }) }))
  const dial = () => {
    const socket = connect(Number(url.port), url.hostname)
    socket.on('error', () => {}).resume()
    t.teardown(() => socket.destroy())
    return socket
  }
  const slow = Array.from({ length: 200 }, dial)
  for (const socket of slow) socket.write('GET /livez HTTP/1.1\r\nx-slow: ')
  t.equal((await fetch(`${url.origin}/livez`)).status, 200, 'they do not lock out a probe')
  const http2 = dial()
  http2.write('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n')
  await once(http2, 'close')
  t.pass('HTTP/2 is not spoken')
  const many = Array.from({ length: 100 }, dial)
  const cut = await Promise.race(many.map((socket) => once(socket, 'close').then(() => true)))
  t.ok(cut, 'one too many is cut at once')
  await Promise.all(slow.map((socket) => once(socket, 'close')))
  t.pass('headers that never end are cut at their deadline')
})
