import type { Clock } from '../../lib/clock.ts'
import type { Logger } from '../../lib/log.ts'
import type { InheritedListener, InheritedSocket } from '../context.ts'
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

/** A sidecar's DNS, SOCKS5 and CONNECT servers as one: they share the names and are started and stopped together. */
export class NameServers {
  readonly #listening: KeepListening[] = []
  readonly #stops: { readonly name: string; readonly close: () => void | Promise<void> }[] = []

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

  pending(): string[] {
    return this.#listening.flatMap(({ pending }) => pending ?? [])
  }

  /** Takes no new connection; names are still answered, since connections that last may ask for them. */
  async drain(): Promise<void> {
    await Promise.all(this.#stops.filter(({ name }) => name !== 'dns').map(({ close }) => close()))
  }

  async close(): Promise<void> {
    for (const one of this.#listening) one.stop()
    await Promise.all(this.#stops.map(({ close }) => close()))
  }

  #add(
    name: string,
    at: Authority,
    server: {
      listen(host: string, port: number, fd?: number): Promise<Authority>
      close(): void | Promise<void>
    },
    { logger, clock, inheritedSocket }: NameServersOptions,
  ): void {
    let inherited: InheritedListener | undefined
    const listen = async (host: string, port: number) => {
      const socket = inheritedSocket(host, port)
      if (socket !== undefined && 'problem' in socket) throw new Error(socket.problem)
      inherited = socket
      try {
        return await server.listen(host, port, socket?.fd)
      } catch (error) {
        socket?.release()
        throw error
      }
    }
    const close = async () => {
      await server.close()
      inherited?.release()
    }
    this.#listening.push(new KeepListening({ name, at, listen, logger, ...(clock && { clock }) }))
    this.#stops.push({ name, close })
  }
}
