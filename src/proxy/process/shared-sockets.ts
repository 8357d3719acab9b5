import { Backoff } from '../../lib/backoff.ts'
import type { Transport } from '../context.ts'
import type { Authority } from '../names/authority.ts'
import { type BoundSocket, bindDatagramSocket, bindSocket } from './bound-socket.ts'
import { FIRST_DESCRIPTOR } from './child.ts'
import { INHERITED_SOCKETS, inheritedText, socketName } from './inherited-sockets.ts'
import type { LauncherEntry } from './launcher-log.ts'
import type { Inheritance } from './slot.ts'

export interface SharedSocketsOptions {
  readonly addresses: readonly SharedAddress[]
  readonly log: (entry: LauncherEntry) => void
  /** An address that could not be had before is ours now: workers that start from here on have it. */
  readonly onBound: () => void
}

/** What all workers listen on together: connections, and datagrams too where the address says so. */
export interface SharedAddress extends Authority {
  readonly datagrams?: boolean
}

/** The listening sockets of all workers: bound by the launcher, so that they outlive each of them. */
export class SharedSockets {
  readonly #log: (entry: LauncherEntry) => void
  readonly #onBound: () => void
  readonly #sockets: SharedSocket[]
  readonly #backoff = new Backoff({ baseMs: 250, maxMs: 5_000 })
  #retry: NodeJS.Timeout | undefined

  constructor({ addresses, log, onBound }: SharedSocketsOptions) {
    this.#log = log
    this.#onBound = onBound
    this.#sockets = addresses.flatMap((at) =>
      (at.datagrams === true ? (['tcp', 'udp'] as const) : (['tcp'] as const)).map(
        (transport): SharedSocket => ({
          at,
          transport,
          name: socketName(at, transport),
          state: 'closed',
          listening: false,
        }),
      ),
    )
  }

  open(): void {
    for (const socket of this.#sockets) if (typeof socket.state === 'string') this.#bind(socket)
    this.#retryLater()
  }

  /** A worker listens there now. */
  listening(address: string): void {
    for (const socket of this.#sockets) if (socket.name === address) socket.listening = true
  }

  /** For a process that starts now. */
  inheritance(): Inheritance {
    const descriptors: number[] = []
    const parts = this.#sockets.map(({ name, state }) => {
      if (typeof state === 'string') return inheritedText(name, { problem: state })
      return inheritedText(name, { fd: FIRST_DESCRIPTOR + descriptors.push(state.fd) - 1 })
    })
    return { env: { [INHERITED_SOCKETS]: parts.join(' ') }, descriptors }
  }

  /**
   * Begins anew with each address that no worker listens on any more: it is refused from here on, as it was before the first
   * worker listened. As long as we hold a socket that listens, its queue would take connections that nobody accepts.
   */
  renew(abandoned: (address: string) => boolean): void {
    for (const socket of this.#sockets) {
      if (typeof socket.state === 'string' || !socket.listening || !abandoned(socket.name)) continue
      socket.state.close()
      this.#bind(socket)
    }
    this.#retryLater()
  }

  /** The workers have the addresses to themselves: they end with the last of them. */
  close(): void {
    clearTimeout(this.#retry)
    for (const socket of this.#sockets) {
      if (typeof socket.state !== 'string') socket.state.close()
      socket.state = 'closed'
    }
  }

  #bind(socket: SharedSocket): void {
    const { host, port } = socket.at
    socket.listening = false
    try {
      socket.state = socket.transport === 'tcp' ? bindSocket(host, port) : bindDatagramSocket(host, port)
    } catch (error) {
      const { message } = error as Error
      if (socket.state !== message)
        this.#log({
          level: 'warn',
          msg: 'cannot bind',
          host,
          port,
          transport: socket.transport,
          error: message,
        })
      socket.state = message
    }
  }

  #retryLater(): void {
    clearTimeout(this.#retry)
    const missing = this.#sockets.filter(({ state }) => typeof state === 'string')
    if (missing.length === 0) {
      this.#backoff.reset()
      return
    }
    this.#retry = setTimeout(() => {
      for (const socket of missing) this.#bind(socket)
      if (missing.some(({ state }) => typeof state !== 'string')) this.#onBound()
      this.#retryLater()
    }, this.#backoff.next())
  }
}

interface SharedSocket {
  readonly at: Authority
  readonly transport: Transport
  /** As `socketName` has it. */
  readonly name: string
  /** Or why there is none, in one word. */
  state: BoundSocket | string
  /** Whether some worker has made it listen; then it does as long as anybody holds it. */
  listening: boolean
}
