import type { Clock } from '../../lib/clock.ts'
import type { Logger } from '../../lib/log.ts'
import type { InheritedListener, InheritedSocket, Transport } from '../context.ts'
import { type Authority, formatAuthority } from '../names/authority.ts'
import { Dialer, type OpenListener } from '../names/dialer.ts'
import { DnsServer } from '../names/dns-server.ts'
import { HttpConnectServer } from '../names/http-connect.ts'
import type { NameTable } from '../names/name-table.ts'
import { Socks5Server } from '../names/socks5.ts'
import { KeepListening } from './keep-listening.ts'

/** Where a sidecar's doors for names stand; one that is undefined is off. */
export interface NameServerAddresses {
  readonly dns: Authority | undefined
  readonly socks: Authority | undefined
  readonly connect: Authority | undefined
}

export interface NameServersOptions {
  readonly addresses: NameServerAddresses
  readonly names: NameTable
  /** Resolvers for all other names. */
  readonly upstreams: readonly Authority[]
  /** True when `upstreams` were given by hand: then SOCKS5 and CONNECT ask them too, instead of the system's resolver. */
  readonly upstreamsGiven: boolean
  readonly open: OpenListener
  /** Sockets that were made for this process by another. */
  readonly inheritedSocket: InheritedSocket
  readonly logger: Logger
  readonly clock?: Clock
}

interface NameServer {
  /** What it listens on, in the order in which it takes descriptors. */
  readonly transports: readonly Transport[]
  listen(host: string, port: number, ...descriptors: number[]): Promise<Authority>
  drain?(): Promise<void>
  close(): void | Promise<void>
}

/** A sidecar's DNS, SOCKS5 and CONNECT servers as one: they share the names and are started and stopped together. */
export class NameServers {
  readonly #listening: KeepListening[] = []
  readonly #waiting: (() => void)[] = []
  readonly #servers: { readonly server: NameServer; readonly released: () => void }[] = []

  constructor(options: NameServersOptions) {
    const { addresses, names, upstreams, upstreamsGiven, open, logger } = options
    const dialer = new Dialer({
      names,
      open,
      ...(upstreamsGiven && { resolvers: upstreams }),
      onFailure: ({ host, port }, remoteAddress, { kind, message: reason }) =>
        logger.info({ host, port, remoteAddress, kind, reason }, 'not connected'),
    })
    if (addresses.dns !== undefined)
      this.#add('dns', addresses.dns, new DnsServer({ names, upstreams, logger }), options)
    if (addresses.socks !== undefined)
      this.#add('socks', addresses.socks, new Socks5Server({ dialer }), options)
    if (addresses.connect !== undefined)
      this.#add('connect', addresses.connect, new HttpConnectServer({ dialer }), options)
  }

  /** The real addresses of those that listen, by name. */
  addresses(): Record<string, string> {
    return Object.fromEntries(
      this.#listening.flatMap(({ name, address }) =>
        address === undefined ? [] : [[name, formatAuthority(address)]],
      ),
    )
  }

  /**
   * Opens the doors. Before the names and what they lead to are known, a name of ours would be answered as one that does not
   * exist, and remembered so; a predecessor, or the client's next attempt, does better.
   */
  start(): void {
    for (const open of this.#waiting.splice(0)) open()
  }

  pending(): string[] {
    if (this.#waiting.length > 0) return ['names: not known yet']
    return this.#listening.flatMap(({ pending }) => pending ?? [])
  }

  /**
   * Takes no new connection, and resolves once each client that was taken has its target or was refused it. Names are still
   * answered, since connections that last may ask for them.
   */
  async drain(): Promise<void> {
    this.#waiting.length = 0
    const draining = this.#servers.map(({ server, released }) => {
      if (server.drain === undefined) return undefined
      const done = server.drain()
      released()
      return done
    })
    await Promise.all(draining)
  }

  async close(): Promise<void> {
    this.#waiting.length = 0
    for (const one of this.#listening) one.stop()
    const closing = this.#servers.map(async ({ server, released }) => {
      await server.close()
      released()
    })
    await Promise.all(closing)
  }

  #add(
    name: string,
    at: Authority,
    server: NameServer,
    { logger, clock, inheritedSocket }: NameServersOptions,
  ): void {
    let inherited: readonly InheritedListener[] = []
    const released = () => {
      for (const socket of inherited) socket.release()
    }
    const listen = async (host: string, port: number) => {
      const sockets = server.transports.map((transport) => inheritedSocket(host, port, transport))
      inherited = sockets.filter((socket) => socket !== undefined && 'fd' in socket) as InheritedListener[]
      try {
        for (const socket of sockets)
          if (socket !== undefined && 'problem' in socket) throw new Error(socket.problem)
        return await server.listen(host, port, ...inherited.map(({ fd }) => fd))
      } catch (error) {
        released()
        throw error
      }
    }
    this.#waiting.push(() =>
      this.#listening.push(new KeepListening({ name, at, listen, logger, ...(clock && { clock }) })),
    )
    this.#servers.push({ server, released })
  }
}
