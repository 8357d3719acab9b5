import type { InheritedListener, Transport } from '../context.ts'
import { type Authority, formatAuthority } from '../names/authority.ts'

/**
 * In the environment of a worker: `ADDRESS=FD` of each descriptor, or `ADDRESS!CODE` where its launcher could not bind, by spaces.
 * The address of a socket for datagrams begins with `udp/`.
 */
export const INHERITED_SOCKETS = 'ISTHMUS_LISTEN'

export interface InheritedSocketEvents {
  onListening(address: string): void
  /** Nobody in this process listens there any more. */
  onReleased(address: string): void
  /** The address is wanted again, and its descriptor went with the listener that had it: only a successor gets another. */
  onUsedUp(address: string): void
}

/** What the launcher and its workers call a socket. */
export function socketName(at: Authority, transport: Transport): string {
  return transport === 'tcp' ? formatAuthority(at) : `udp/${formatAuthority(at)}`
}

/** One part of `INHERITED_SOCKETS`. */
export function inheritedText(address: string, socket: { fd: number } | { problem: string }): string {
  return 'fd' in socket ? `${address}=${socket.fd}` : `${address}!${socket.problem}`
}

/** The listening sockets that the launcher made for its workers, on this worker's side. */
export class InheritedSockets {
  readonly #sockets = new Map<string, number | string>()
  readonly #used = new Map<string, 'listening' | 'released'>()
  readonly #events: InheritedSocketEvents

  constructor(text: string, events: InheritedSocketEvents) {
    this.#events = events
    for (const part of text.split(' ')) {
      const match = /^(.+)([=!])(\w+)$/.exec(part)
      if (match === null) continue
      const [, address = '', sign, value = ''] = match
      this.#sockets.set(address, sign === '=' ? Number(value) : value)
    }
  }

  /** Undefined for an address that the launcher does not know of: it is this process's to bind. */
  take(
    host: string,
    port: number,
    transport: Transport = 'tcp',
  ): InheritedListener | { readonly problem: string } | undefined {
    const address = socketName({ host, port }, transport)
    const socket = this.#sockets.get(address)
    if (socket === undefined) return undefined
    if (typeof socket === 'string') return { problem: socket }
    const used = this.#used.get(address)
    if (used === 'listening') return { problem: 'EADDRINUSE' }
    if (used === 'released') {
      this.#events.onUsedUp(address)
      return { problem: 'a successor of this worker takes over' }
    }
    this.#used.set(address, 'listening')
    this.#events.onListening(address)
    return {
      fd: socket,
      release: () => {
        if (this.#used.get(address) === 'released') return
        this.#used.set(address, 'released')
        this.#events.onReleased(address)
      },
    }
  }
}
