import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { type AddressInfo, isIP } from 'node:net'

/** What a route answers. */
export interface AdminReply {
  /** HTTP status; default 200. */
  readonly status?: number
  /** An object or array is sent as indented JSON, a string as it is. */
  readonly body: unknown
  /** Content type; default `application/json` for objects, `text/plain` for strings. */
  readonly type?: string
}

/**
 * Answers one path. `method` is the HTTP method; a route that changes something should refuse all but `POST`. `body` reads what
 * came with the request, and rejects where that is too long.
 */
export type AdminRoute = (
  query: URLSearchParams,
  method: string,
  body: () => Promise<string>,
) => Promise<AdminReply>

export interface AdminServerOptions {
  /** By path, e.g. `/status`. Any other path answers 404 with the list of these. */
  readonly routes: Readonly<Record<string, AdminRoute>>
}

/** Probes, scrapers and a person; nobody needs more at one time. Health must answer while somebody tries to keep it busy. */
const MAX_CONNECTIONS = 256
/** All the objects of a large cluster, bytes. */
const MAX_BODY = 64 * 1024 * 1024
/** Milliseconds and bytes. */
const LIMITS = {
  connectionsCheckingInterval: 1_000,
  headersTimeout: 3_000,
  requestTimeout: 10_000,
  keepAliveTimeout: 5_000,
  maxHeaderSize: 8_192,
}

/**
 * The operator's HTTP server: admin, health and metrics are each one of these with its own routes.
 *
 * It has no authentication: what keeps it safe is the address it listens on. Two things that reach loopback all the same are
 * refused: a web page of another origin (`Origin`, `Sec-Fetch-Site`, and `Host` after DNS rebinding).
 */
export class AdminServer {
  readonly #routes: Readonly<Record<string, AdminRoute>>
  readonly #server: Server
  #loopback = false

  constructor(options: AdminServerOptions) {
    this.#routes = options.routes
    this.#server = createServer(LIMITS, (request, response) => {
      void this.#answer(request, response)
    })
    this.#server.maxConnections = MAX_CONNECTIONS
  }

  /** Rejects with the operating system's error when the address cannot be used. */
  listen(host: string, port: number): Promise<{ host: string; port: number }> {
    this.#loopback = host === 'localhost' || host.startsWith('127.') || host === '::1'
    return new Promise((resolve, reject) => {
      this.#server.once('error', reject)
      this.#server.listen(port, host, () => {
        this.#server.off('error', reject)
        const address = this.#server.address() as AddressInfo
        resolve({ host: address.address, port: address.port })
      })
    })
  }

  /** Ends at once: an operator's request is not worth waiting for. Safe to call twice. */
  async close(): Promise<void> {
    this.#server.closeAllConnections()
    await new Promise<void>((resolve) => this.#server.close(() => resolve()))
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const reply = await this.#reply(request)
    // What nobody read.
    request.resume()
    const text = typeof reply.body === 'string' ? reply.body : `${JSON.stringify(reply.body, jsonValue, 2)}\n`
    const type =
      reply.type ?? (typeof reply.body === 'string' ? 'text/plain; charset=utf-8' : 'application/json')
    response.writeHead(reply.status ?? 200, {
      'content-type': type,
      'content-length': Buffer.byteLength(text),
      'cache-control': 'no-store',
    })
    response.end(request.method === 'HEAD' ? undefined : text)
  }

  async #reply(request: IncomingMessage): Promise<AdminReply> {
    const refused = this.#refusal(request)
    if (refused !== undefined) return { status: 403, body: `${refused}\n` }
    const target = request.url ?? '/'
    const cut = target.indexOf('?')
    const path = cut === -1 ? target : target.slice(0, cut)
    const route = Object.hasOwn(this.#routes, path) ? this.#routes[path] : undefined
    if (route === undefined) {
      const list = Object.keys(this.#routes).sort().join('\n')
      return {
        status: path === '/' ? 200 : 404,
        body: `${path === '/' ? '' : `no ${path} here; there is\n`}${list}\n`,
      }
    }
    try {
      return await route(
        new URLSearchParams(cut === -1 ? '' : target.slice(cut + 1)),
        request.method ?? 'GET',
        () => readBody(request),
      )
    } catch (error) {
      if (error instanceof BodyTooLong) return { status: 413, body: `${error.message}\n` }
      return { status: 500, body: `${error instanceof Error ? error.message : String(error)}\n` }
    }
  }

  #refusal(request: IncomingMessage): string | undefined {
    // A page's <img> is a GET without an Origin. `none` is what a person typed; curl and scrapers say nothing.
    const { origin, 'sec-fetch-site': site = 'none' } = request.headers
    if (origin !== undefined || (site !== 'none' && site !== 'same-origin'))
      return 'requests of web pages are refused here'
    if (!this.#loopback) return undefined
    const host = (request.headers.host ?? '').replace(/:\d+$/, '').replace(/^\[(.*)\]$/, '$1')
    if (host === '' || host === 'localhost' || isIP(host) !== 0) return undefined
    return `the Host header must be an IP address or localhost, not ${host}`
  }
}

class BodyTooLong extends Error {}

async function readBody(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length
    if (bytes > MAX_BODY) throw new BodyTooLong(`the request is longer than ${MAX_BODY} bytes`)
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString('utf8')
}

/** JSON has no Map, Set, bigint or bytes; config dumps and statuses do. */
function jsonValue(_key: string, value: unknown): unknown {
  if (value instanceof Map) return Object.fromEntries(value)
  if (value instanceof Set) return [...value]
  if (typeof value === 'bigint') return value.toString()
  if (value instanceof Uint8Array) return Buffer.from(value).toString('base64')
  return value
}
