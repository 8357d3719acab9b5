import type { AddressInfo, Server, Socket } from 'node:net'
import { isLoopback } from '../../lib/loopback.ts'
import { type Authority, formatAuthority } from './authority.ts'
import type { Tunnel } from './dialer.ts'

/** A descriptor that is bound to the address already, and shared with other processes; without one the address is ours to bind. */
export type BoundDescriptor = number | undefined

/**
 * Listens on a loopback address only: SOCKS5 and CONNECT carry the pod's identity, and have no authentication of their own.
 * Rejects for any other address, naming it, and with the system's error when the address is taken.
 */
export function listenLocally(server: Server, at: Authority, fd?: BoundDescriptor): Promise<Authority> {
  if (!isLoopback(at.host)) {
    return Promise.reject(
      new Error(`${formatAuthority(at)} is not a loopback address: whoever reaches it would act as this pod`),
    )
  }
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(fd === undefined ? at : { fd }, () => {
      server.off('error', reject)
      const { address, port } = server.address() as AddressInfo
      if (isLoopback(address)) return resolve({ host: address, port })
      // Not what was asked for: a descriptor that is none of ours, or a server that takes no descriptor.
      server.close()
      reject(new Error(`${formatAuthority({ host: address, port })} is not a loopback address`))
    })
  })
}

/**
 * Hands a paused client socket to its tunnel. One that had sent its end before, with nothing left to read, has emitted `end`
 * already although it was paused (Node does): whoever carries it now is told again.
 */
export function handOver(socket: Socket, tunnel: Tunnel, head: Buffer): void {
  tunnel.splice(socket, head)
  if (socket.readableEnded) socket.emit('end')
}

/** The sockets of a server that are not yet handed on, so that they can be ended with it. */
export class PendingSockets {
  readonly #sockets = new Set<Socket>()
  readonly #whenEmpty: (() => void)[] = []

  add(socket: Socket): void {
    this.#sockets.add(socket)
    socket.once('close', () => this.release(socket))
  }

  /** From here on the socket lives by itself. */
  release(socket: Socket): void {
    this.#sockets.delete(socket)
    if (this.#sockets.size === 0) for (const resolve of this.#whenEmpty.splice(0)) resolve()
  }

  /** Resolves once there is none. */
  whenEmpty(): Promise<void> {
    if (this.#sockets.size === 0) return Promise.resolve()
    return new Promise((resolve) => this.#whenEmpty.push(resolve))
  }

  destroyAll(): void {
    for (const socket of this.#sockets) socket.destroy()
  }
}
