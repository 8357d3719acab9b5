import type { IncomingMessage, ServerResponse } from 'node:http'
import { createServer, type Server } from 'node:https'
import type { AddressInfo } from 'node:net'
import type { Duplex } from 'node:stream'
import type { Credential } from '../identity/credential.ts'
import type { Clock } from '../lib/clock.ts'
import type { Logger } from '../lib/log.ts'
import { formatProblem } from '../lib/result.ts'
import type { ObjectStore } from '../objects/store.ts'
import { refOf } from '../objects/types.ts'
import { type KnownToken, knownTokens, linkConflict, tokenManifest, writeLink } from './link-objects.ts'
import { type LinkSide, readSide, secretFits } from './link-token.ts'

export const LINK_PATH = '/v1/link'
/** What one who spends a token sends, bytes. */
const BODY_MAX = 262_144
const CONNECTIONS_MAX = 16
const LIMITS = {
  headersTimeout: 5_000,
  requestTimeout: 10_000,
  maxHeaderSize: 8_192,
  handshakeTimeout: 5_000,
}

/** Why a token is not taken: the label of a metric. */
export type LinkRefusal =
  | 'malformed'
  | 'unknown'
  | 'used'
  | 'expired'
  | 'other-cluster'
  | 'conflict'
  | 'not-written'

export interface LinkServerOptions {
  readonly at: { readonly host: string; readonly port: number }
  readonly store: ObjectStore
  /** Of this cluster; undefined while there is no credential. */
  readonly self: () => Pick<LinkSide, 'cluster' | 'trustDomain' | 'network' | 'bundle'> | undefined
  readonly credential: () => Credential | undefined
  /** It has begun or ceased to listen. */
  readonly onChange: () => void
  readonly logger: Logger
  readonly clock: Clock
}

interface Answer {
  readonly status: number
  readonly body: Readonly<Record<string, string>>
}

/**
 * Takes the tokens of clusters that want to be linked: HTTPS with this discovery server's certificate, and the token's secret instead of
 * the client's. It listens only while a token is outstanding, or was spent and has not expired.
 */
export class LinkServer {
  readonly #options: LinkServerOptions
  readonly #refusals = new Map<LinkRefusal, number>()
  /** One after the other: two who come at once, with whatever tokens, are two, and one of them is late. */
  #last: Promise<unknown> = Promise.resolve()
  readonly #sockets = new Set<Duplex>()
  #server: Server | undefined
  #port: number | undefined
  #shown: Credential | undefined
  #cancelExpiry: () => void = () => {}

  constructor(options: LinkServerOptions) {
    this.#options = options
  }

  /** Where it listens now; undefined while nobody may come. */
  get port(): number | undefined {
    return this.#port
  }

  get refusals(): ReadonlyMap<LinkRefusal, number> {
    return this.#refusals
  }

  /** Opens, closes or shows another certificate, as the store and the credential say. */
  refresh(): void {
    const { store, clock, credential } = this.#options
    const nowMs = clock.now()
    const tokens = knownTokens(store.list('Secret'))
    const live = tokens.filter(({ expiresMs }) => expiresMs > nowMs)
    for (const { secret, expiresMs } of tokens) if (expiresMs <= nowMs) void this.#forget(secret)
    this.#cancelExpiry()
    const shown = credential()
    if (live.length === 0 || shown === undefined) {
      this.#close()
      return
    }
    const firstMs = Math.min(...live.map(({ expiresMs }) => expiresMs))
    this.#cancelExpiry = clock.after(firstMs - nowMs + 1, () => this.refresh())
    this.#open(shown)
  }

  stop(): void {
    this.#cancelExpiry()
    this.#close()
  }

  #open(credential: Credential): void {
    const tls = {
      cert: credential.certificatePem,
      key: credential.privateKeyPem,
      minVersion: 'TLSv1.2' as const,
      ALPNProtocols: ['http/1.1'],
    }
    if (this.#server !== undefined) {
      if (this.#shown !== credential) this.#server.setSecureContext(tls)
      this.#shown = credential
      return
    }
    this.#shown = credential
    const server = createServer(
      { ...tls, ...LIMITS },
      (request, response) => void this.#serve(request, response),
    )
    server.maxConnections = CONNECTIONS_MAX
    server.on('connection', (socket) => {
      this.#sockets.add(socket)
      socket.once('close', () => this.#sockets.delete(socket))
    })
    server.on('tlsClientError', () => {})
    server.on('error', (error) => {
      this.#options.logger.error({ err: error, link: this.#options.at }, 'tokens cannot be taken')
      this.#close()
    })
    this.#server = server
    server.listen(this.#options.at.port, this.#options.at.host, () => {
      if (this.#server !== server) return
      this.#port = (server.address() as AddressInfo).port
      this.#options.logger.info(
        { port: this.#port },
        'a link token is outstanding: waiting for who spends it',
      )
      this.#options.onChange()
    })
  }

  #close(): void {
    const server = this.#server
    if (server === undefined) return
    this.#server = undefined
    const open = this.#port !== undefined
    this.#port = undefined
    server.close()
    for (const socket of this.#sockets) socket.destroy()
    if (open) this.#options.onChange()
  }

  async #forget(secret: KnownToken['secret']): Promise<void> {
    try {
      await this.#options.store.delete(refOf(secret))
    } catch (error) {
      this.#options.logger.warn(
        { err: error, secret: secret.metadata.name },
        'an expired token cannot be deleted',
      )
    }
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    let answer: Answer
    try {
      answer = await this.#answer(request)
    } catch (error) {
      this.#options.logger.error({ err: error }, 'a link request failed')
      answer = {
        status: 500,
        body: { error: 'the request failed; the log of the discovery server says why' },
      }
    }
    const text = JSON.stringify(answer.body)
    response.writeHead(answer.status, { 'content-type': 'application/json', connection: 'close' })
    response.end(text)
  }

  async #answer(request: IncomingMessage): Promise<Answer> {
    if (request.method !== 'POST' || request.url !== LINK_PATH)
      return { status: 404, body: { error: 'not found' } }
    const body = await readBody(request)
    const members = body === undefined ? undefined : parse(body)
    if (members === undefined) return this.#refuse('malformed', 400, 'the request is not readable')
    const { id, secret } = members
    if (typeof id !== 'string' || typeof secret !== 'string')
      return this.#refuse('malformed', 400, 'id and secret are texts')
    const turn = this.#last.then(() => this.#spend(id, secret, members['side']))
    this.#last = turn.catch(() => {})
    return turn
  }

  async #spend(id: string, secret: string, what: unknown): Promise<Answer> {
    const { store, clock, logger } = this.#options
    const self = this.#options.self()
    const token = knownTokens(store.list('Secret')).find((one) => one.id === id)
    if (self === undefined || token === undefined || !secretFits(secret, token.hash))
      return this.#refuse('unknown', 403, 'the token is not known here: it has expired, or never was')
    if (token.expiresMs <= clock.now())
      return this.#refuse('expired', 403, `the token expired at ${new Date(token.expiresMs).toISOString()}`)
    if (token.usedBy !== '')
      return this.#refuse(
        'used',
        403,
        `the token was used by ${token.usedBy} at ${token.usedAt}; each is good for one link`,
      )
    // Not before: a stranger's certificates are not worth the parsing.
    const read = readSide(what)
    if (!read.ok) return this.#refuse('malformed', 400, read.error)
    const side = read.value
    if (token.for !== '' && token.for !== side.cluster)
      return this.#refuse('other-cluster', 403, `the token is for ${token.for}, not for ${side.cluster}`)
    const conflict = linkConflict(store, side, self)
    if (conflict !== undefined) return this.#refuse('conflict', 409, conflict)
    // Spent first: a token that is written to be good again after a failure could be good twice.
    const used = await store.apply(
      tokenManifest({ ...token, usedBy: side.cluster, usedAt: new Date(clock.now()).toISOString() }),
    )
    const written = used.ok ? await writeLink(store, side) : used
    if (!written.ok) return this.#refuse('not-written', 500, formatProblem(written.error))
    logger.info({ peer: side.cluster, trustDomain: side.trustDomain, token: id }, 'linked')
    return { status: 200, body: { cluster: self.cluster } }
  }

  #refuse(reason: LinkRefusal, status: number, error: string): Answer {
    this.#refusals.set(reason, (this.#refusals.get(reason) ?? 0) + 1)
    this.#options.logger.warn({ reason, error }, 'a link is refused')
    return { status, body: { error } }
  }
}

/** Undefined: too long. */
async function readBody(request: IncomingMessage): Promise<string | undefined> {
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of request) {
    size += (chunk as Buffer).length
    if (size > BODY_MAX) return undefined
    chunks.push(chunk as Buffer)
  }
  return Buffer.concat(chunks).toString('utf8')
}

function parse(body: string): Record<string, unknown> | undefined {
  try {
    const value = JSON.parse(body) as unknown
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : undefined
  } catch {
    return undefined
  }
}
