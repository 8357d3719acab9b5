// The example application: four small HTTP services after Istio's bookinfo, our own code. They find each other by the
// mesh's names only, so the same program runs in a pod on a cluster and as a process of the demo.
import { Resolver } from 'node:dns/promises'
import { createServer, get, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo, LookupFunction } from 'node:net'
import { hostname } from 'node:os'
import { bookPage, type Details, type Review, type Reviews, type Section } from './bookinfo-page.ts'

export const SERVICES = ['productpage', 'details', 'reviews', 'ratings'] as const
export type ServiceName = (typeof SERVICES)[number]

export interface BookinfoOptions {
  readonly service: ServiceName
  readonly host: string
  readonly port: number
  /** A second port with `/health` and the counter of answered requests; undefined: none. */
  readonly adminPort: number | undefined
  /** DNS server as `address:port`; undefined: the system's resolver. */
  readonly dns: string | undefined
  /** Shown in answers; default the host name. */
  readonly pod?: string | undefined
}

/** A call to another service may take this long. */
const CALL_TIMEOUT_MS = 2_000
const MAX_BODY_BYTES = 1 << 20
/** As servers behind a proxy are advised to: it is the client who ends a connection that he kept. */
const KEEP_ALIVE_MS = 60_000

type Answer = (url: URL, response: ServerResponse, method: string) => void | Promise<void>

/** Starts one service; resolves once it listens. */
export async function startBookinfo(
  options: BookinfoOptions,
): Promise<{ readonly servers: readonly Server[]; close(): Promise<void> }> {
  const pod = options.pod ?? hostname()
  const call = caller(options.dns)
  const answers: Record<ServiceName, Readonly<Record<string, Answer>>> = {
    productpage: { '/productpage': productpage(call, pod), '/slow': slow },
    details: { '/details': (_url, response) => json(response, pod, DETAILS) },
    reviews: { '/reviews': reviews(call, pod) },
    ratings: { '/ratings': (_url, response) => json(response, pod, RATINGS) },
  }
  let answered = 0
  const routes = answers[options.service]
  const serve = (extra: Readonly<Record<string, Answer>>) =>
    createServer({ keepAliveTimeout: KEEP_ALIVE_MS }, (request, response) => {
      const url = new URL(request.url ?? '/', 'http://bookinfo')
      const answer = extra[url.pathname]
      if (answer === undefined) return notFound(response, url.pathname, Object.keys(extra))
      response.on('finish', () => (answered += url.pathname === '/health' ? 0 : 1))
      Promise.resolve(answer(url, response, request.method ?? '')).catch((error: Error) =>
        response.destroy(error),
      )
    })
  const health: Answer = (_url, response) => json(response, pod, { service: options.service, healthy: true })
  const servers = [serve({ ...routes, '/health': health })]
  await listen(servers[0]!, options.host, options.port)
  const address = servers[0]!.address() as AddressInfo
  if (options.adminPort !== undefined) {
    const admin = serve({
      '/health': health,
      '/requests': (_url, response) => json(response, pod, { answered }),
      '/listening': listening(servers[0]!, { host: address.address, port: address.port }, pod),
    })
    servers.push(admin)
    await listen(admin, options.host, options.adminPort)
  }
  return { servers, close: () => closeAll(servers) }
}

function listen(server: Server, host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => server.once('error', reject).listen({ host, port }, resolve))
}

/** `POST /listening?on=false`: the service is as if it had crashed, refusing whoever calls, until `on=true`. */
function listening(server: Server, address: { host: string; port: number }, pod: string): Answer {
  return async (url, response, method) => {
    const on = url.searchParams.get('on')
    if (method !== 'POST' || (on !== 'true' && on !== 'false')) {
      response.writeHead(400, { 'content-type': 'text/plain' })
      response.end('expected POST /listening?on=true or ?on=false\n')
      return
    }
    if (on === 'true' && !server.listening) await listen(server, address.host, address.port)
    if (on === 'false' && server.listening) {
      server.close()
      server.closeAllConnections()
    }
    json(response, pod, { listening: server.listening })
  }
}

/** Lets answers in flight finish; idle connections end at once. */
async function closeAll(servers: readonly Server[]): Promise<void> {
  await Promise.all(servers.map((server) => new Promise<void>((resolve) => server.close(() => resolve()))))
}

const DETAILS: Details = {
  title: 'The Comedy of Errors',
  author: 'William Shakespeare',
  year: 1595,
  pages: 200,
  publisher: 'PublisherA',
}
const RATINGS: Readonly<Record<string, number>> = { Reviewer1: 5, Reviewer2: 4 }
const REVIEWS: readonly Omit<Review, 'stars'>[] = [
  {
    reviewer: 'Reviewer1',
    text: 'An extremely entertaining play by Shakespeare. The slapstick humour is refreshing!',
  },
  {
    reviewer: 'Reviewer2',
    text: 'Absolutely fun and entertaining. The play lacks thematic depth when compared to other plays by Shakespeare.',
  },
]

function productpage(call: Call, pod: string): Answer {
  return async (_url, response) => {
    const [details, reviewsSection] = await Promise.all([
      call<Details>('http://details.bookinfo:9080/details'),
      call<Reviews>('http://reviews.bookinfo:9080/reviews'),
    ])
    response.writeHead(200, { 'content-type': 'text/html; charset=utf-8', 'x-pod': pod })
    response.end(bookPage(details, reviewsSection, pod))
  }
}

function reviews(call: Call, pod: string): Answer {
  return async (_url, response) => {
    const ratings = await call<Readonly<Record<string, number>>>('http://ratings.bookinfo:80/ratings')
    const stars = 'data' in ratings ? ratings.data : {}
    const body: Reviews = {
      reviews: REVIEWS.map((review) => ({ ...review, stars: stars[review.reviewer] })),
      ratingsProblem: 'data' in ratings ? '' : ratings.unavailable,
      ratingsFrom: 'data' in ratings ? ratings.from : '',
    }
    json(response, pod, body)
  }
}

/** `/slow?seconds=5`: a line every half second, for trying what happens to a connection in flight. */
function slow(url: URL, response: ServerResponse): void {
  const seconds = Math.min(600, Math.max(0, Number(url.searchParams.get('seconds') ?? '5') || 0))
  const ticks = seconds * 2
  let tick = 0
  response.writeHead(200, { 'content-type': 'text/plain', connection: 'close' })
  const timer = setInterval(() => {
    if (tick++ < ticks) response.write(`line ${tick} of ${ticks}\n`)
    else response.end('the end\n')
  }, 500)
  response.on('close', () => clearInterval(timer))
}

function json(response: ServerResponse, pod: string, body: unknown): void {
  response.writeHead(200, { 'content-type': 'application/json', 'x-pod': pod })
  response.end(JSON.stringify(body))
}

function notFound(response: ServerResponse, path: string, known: readonly string[]): void {
  response.writeHead(404, { 'content-type': 'text/plain' })
  response.end(`there is no ${path} here; there is ${known.join(', ')}\n`)
}

type Call = <T>(url: string) => Promise<Section<T>>

/** Calls another service by its name in the mesh; every failure is an `unavailable` with the reason, never an exception. */
function caller(dns: string | undefined): Call {
  const lookup = dns === undefined ? undefined : lookupThrough(dns)
  return <T>(url: string) =>
    new Promise<Section<T>>((resolve) => {
      const unavailable = (why: string) => resolve({ unavailable: why })
      const request = get(
        url,
        { agent: false, timeout: CALL_TIMEOUT_MS, ...(lookup === undefined ? {} : { lookup }) },
        (response) => {
          readBody(response).then((body) => {
            if (response.statusCode !== 200)
              return unavailable(`${response.statusCode} ${body.slice(0, 200).trim()}`)
            resolve({ data: JSON.parse(body) as T, from: String(response.headers['x-pod'] ?? '') })
          }, unavailableBecause(unavailable))
        },
      )
      request.on('timeout', () => request.destroy(new Error(`no answer in ${CALL_TIMEOUT_MS} ms`)))
      request.on('error', unavailableBecause(unavailable))
    })
}

const unavailableBecause = (unavailable: (why: string) => void) => (error: Error) =>
  unavailable(error.message)

async function readBody(response: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of response as AsyncIterable<Buffer>) {
    bytes += chunk.length
    if (bytes > MAX_BODY_BYTES) throw new Error(`answer of more than ${MAX_BODY_BYTES} bytes`)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString('utf8')
}

/** Node's `lookup` through one DNS server, as a pod's resolv.conf would have it. */
function lookupThrough(server: string): LookupFunction {
  const resolver = new Resolver({ timeout: 1_000, tries: 2 })
  resolver.setServers([server])
  return (host, options, callback) => {
    resolver.resolve4(host).then(
      (addresses) => {
        if (options.all === true)
          callback(
            null,
            addresses.map((address) => ({ address, family: 4 })),
          )
        else callback(null, addresses[0] ?? '', 4)
      },
      (error: NodeJS.ErrnoException) => callback(error, '', 4),
    )
  }
}
