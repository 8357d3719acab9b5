import { get } from 'node:http'
import type { AddressInfo } from 'node:net'
import t, { type Test } from 'tap'
import { type ServiceName, startBookinfo } from '../../src/cli/demo/bookinfo.ts'
import { bookPage } from '../../src/cli/demo/bookinfo-page.ts'

async function start(t: Test, service: ServiceName, adminPort?: number) {
  const { servers, close } = await startBookinfo({
    service,
    host: '127.0.0.1',
    port: 0,
    adminPort,
    dns: '127.0.0.1:9',
    pod: 'pod-1',
  })
  t.teardown(close)
  return servers.map((server) => `http://127.0.0.1:${(server.address() as AddressInfo).port}`)
}

const fetchText = (url: string) =>
  new Promise<{ status: number; body: string }>((resolve, reject) => {
    get(url, { agent: false }, (response) => {
      let body = ''
      response.setEncoding('utf8').on('data', (chunk: string) => (body += chunk))
      response.on('end', () => resolve({ status: response.statusCode ?? 0, body }))
    }).on('error', reject)
  })

t.test('productpage says honestly what it cannot reach, and still answers', async (t) => {
  const [url] = await start(t, 'productpage')
  const { status, body } = await fetchText(`${url}/productpage`)
  t.equal(status, 200)
  t.match(body, '<title>Simple Bookstore App</title>')
  t.match(body, /The details service is unavailable: .*details\.bookinfo/)
  t.match(body, /The reviews service is unavailable: .*reviews\.bookinfo/)
})

t.test('every service answers /health; an unknown path says what there is', async (t) => {
  for (const service of ['productpage', 'details', 'reviews', 'ratings'] as const) {
    const [url] = await start(t, service)
    t.match(JSON.parse((await fetchText(`${url}/health`)).body), { service, healthy: true })
    const { status, body } = await fetchText(`${url}/nothing`)
    t.equal(status, 404)
    t.match(body, '/health')
  }
})

t.test('the admin port counts what the other port answered, without health checks', async (t) => {
  const [url, admin] = await start(t, 'details', 0)
  await fetchText(`${url}/details`)
  await fetchText(`${url}/health`)
  t.strictSame(JSON.parse((await fetchText(`${admin}/requests`)).body), { answered: 1 })
})

t.test('the admin port makes a service as if it had crashed, and well again', async (t) => {
  const [url, admin] = await start(t, 'details', 0)
  const post = async (on: boolean) => (await fetch(`${admin}/listening?on=${on}`, { method: 'POST' })).json()
  t.strictSame(await post(false), { listening: false })
  await t.rejects(fetchText(`${url}/details`), { code: 'ECONNREFUSED' })
  t.equal((await fetchText(`${admin}/health`)).status, 200)
  t.strictSame(await post(true), { listening: true })
  t.equal((await fetchText(`${url}/details`)).status, 200)
  t.equal((await fetchText(`${admin}/listening?on=false`)).status, 400, 'a mere GET changes nothing')
})

t.test('text from another service cannot become markup', (t) => {
  const page = bookPage({ unavailable: '<script>"x"&' }, { unavailable: '' }, 'me')
  t.notMatch(page, '<script>')
  t.match(page, '&#60;script&#62;&#34;x&#34;&#38;')
  t.end()
})
