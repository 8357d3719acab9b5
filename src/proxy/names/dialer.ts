import { lookup, Resolver } from 'node:dns/promises'
import { createConnection, isIP, type Socket } from 'node:net'
import { fail, ok, type Result } from '../../lib/result.ts'
import { type Authority, formatAuthority } from './authority.ts'
import type { NameTable } from './name-table.ts'
import { splice } from './splice.ts'

/** An open way to a target: nothing has been read from or written to it yet. */
export interface Tunnel {
  /** Joins the client's socket to it until both ends are done; `head` is what the client has already sent. */
  splice(socket: Socket, head: Buffer): void
  /** Gives it up unused. */
  close(): void
}

/** Why a target cannot be had: `unavailable` = one of ours without a healthy endpoint. */
export type DialFailureKind = 'unresolved' | 'refused' | 'unavailable' | 'timeout' | 'unreachable'

export interface DialFailure {
  readonly kind: DialFailureKind
  /** One line for the client, naming the host. */
  readonly message: string
}

/** `Engine.open`: a connection through the listener bound at `address:port`, without a socket in between. */
export type OpenListener = (
  address: string,
  port: number,
  downstream: { readonly remoteAddress: string; readonly host: string },
) => Promise<Result<Tunnel, { readonly flag: string; readonly reason: string }>>

export interface DialerOptions {
  readonly names: NameTable
  readonly open: OpenListener
  /** Resolvers for hosts that are not ours; default: the system's, with its hosts file and search domains. */
  readonly resolvers?: readonly Authority[]
  /** Resolving and connecting to a host that is not ours, together, milliseconds. Default 10,000. */
  readonly timeoutMs?: number
  /** Called for what ends here, before any listener could write its line in the access log. */
  readonly onFailure?: (target: Authority, from: string, failure: DialFailure) => void
}

/** Finds the way to a target for SOCKS5 and CONNECT: our names through the engine, anything else directly. */
export class Dialer {
  readonly #options: DialerOptions

  constructor(options: DialerOptions) {
    this.#options = options
  }

  /** `from` is the client's address, for the access log. */
  async dial(target: Authority, from: string): Promise<Result<Tunnel, DialFailure>> {
    const addresses = this.#options.names.lookup(target.host)
    const dialled = await (addresses === undefined
      ? this.#direct(target)
      : this.#ours(target, addresses, from))
    if (!dialled.ok && dialled.error.kind !== 'unavailable')
      this.#options.onFailure?.(target, from, dialled.error)
    return dialled
  }

  async #ours(
    target: Authority,
    addresses: readonly string[],
    from: string,
  ): Promise<Result<Tunnel, DialFailure>> {
    let failure: DialFailure = { kind: 'unavailable', message: `no address for ${target.host}` }
    for (const address of addresses) {
      const opened = await this.#options.open(address, target.port, {
        remoteAddress: from,
        host: target.host,
      })
      if (opened.ok) return opened
      const { flag, reason } = opened.error
      // NR: nothing listens there, as a plain connect to that address and port would have found.
      failure =
        flag === 'NR'
          ? { kind: 'refused', message: `connection refused: ${target.host} has no port ${target.port}` }
          : { kind: 'unavailable', message: `${flag}: ${reason}` }
    }
    return fail(failure)
  }

  async #direct(target: Authority): Promise<Result<Tunnel, DialFailure>> {
    const deadline = Date.now() + (this.#options.timeoutMs ?? 10_000)
    const addresses = isIP(target.host) === 0 ? await this.#resolve(target.host, deadline) : [target.host]
    if (addresses.length === 0)
      return fail({ kind: 'unresolved', message: `could not resolve host: ${target.host}` })
    let failure: DialFailure | undefined
    for (const host of addresses) {
      const connected = await connectTo({ host, port: target.port }, deadline - Date.now())
      if (connected.ok) return ok(tunnelTo(connected.value))
      failure = { ...connected.error, message: `${connected.error.message}: ${formatAuthority(target)}` }
    }
    return fail(failure as DialFailure)
  }

  async #resolve(host: string, deadline: number): Promise<string[]> {
    const { resolvers } = this.#options
    const answer = resolvers === undefined ? systemLookup(host) : askResolvers(host, resolvers)
    return withDeadline(answer, deadline - Date.now(), [])
  }
}

async function systemLookup(host: string): Promise<string[]> {
  const found = await lookup(host, { all: true }).catch(() => [])
  return found.map(({ address }) => address)
}

async function askResolvers(host: string, resolvers: readonly Authority[]): Promise<string[]> {
  const resolver = new Resolver({ timeout: 1_500, tries: 2 })
  resolver.setServers(resolvers.map(formatAuthority))
  const [four, six] = await Promise.allSettled([resolver.resolve4(host), resolver.resolve6(host)])
  return [four, six].flatMap((answer) => (answer.status === 'fulfilled' ? answer.value : []))
}

function connectTo(to: Authority, ms: number): Promise<Result<Socket, DialFailure>> {
  return new Promise((resolve) => {
    const socket = createConnection({ ...to, allowHalfOpen: true, noDelay: true })
    const finish = (result: Result<Socket, DialFailure>) => {
      clearTimeout(timer)
      socket.off('error', onError)
      // A later error belongs to the splice; until that stands, it must not be an uncaught one.
      socket.on('error', () => {})
      if (!result.ok) socket.destroy()
      resolve(result)
    }
    const timer = setTimeout(
      () => finish(fail({ kind: 'timeout', message: 'connection timed out' })),
      Math.max(0, ms),
    )
    const onError = (error: NodeJS.ErrnoException) => {
      const refused = error.code === 'ECONNREFUSED'
      finish(
        fail(
          refused
            ? { kind: 'refused', message: 'connection refused' }
            : { kind: 'unreachable', message: 'unreachable' },
        ),
      )
    }
    socket.once('error', onError)
    socket.once('connect', () => finish(ok(socket)))
  })
}

function tunnelTo(upstream: Socket): Tunnel {
  upstream.pause()
  return {
    splice(socket, head) {
      if (head.length > 0) upstream.write(head)
      splice(socket, upstream)
    },
    close: () => upstream.destroy(),
  }
}

function withDeadline<T>(work: Promise<T>, ms: number, late: T): Promise<T> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => resolve(late), Math.max(0, ms))
    void work.then((value) => {
      clearTimeout(timer)
      resolve(value)
    })
  })
}
