// A listening socket that outlives the workers that accept from it: bound here, handed to each worker as a descriptor, and set
// listening by the first of them; and one for datagrams, which wait in it for whichever worker reads next. Node has no public way to
// bind without accepting or reading; this is the only place that uses private ones.
import net from 'node:net'
import { getSystemErrorName } from 'node:util'

/** The parts of libuv's handles that we use. */
interface Handle {
  readonly fd: number
  getsockname(out: { address?: string; port?: number }): number
  close(): void
}

interface PrivateNet {
  _createServerHandle(host: string, port: number, family: 4 | 6, fd: null, flags: number): Handle | number
}

interface PrivateProcess {
  binding(name: 'udp_wrap'): {
    readonly UDP: new () => Handle & {
      bind(host: string, port: number, flags: number): number
      bind6(host: string, port: number, flags: number): number
    }
  }
}

/** An address that is ours, on which nobody listens yet. */
export interface BoundSocket {
  /** For the `stdio` of a child. */
  readonly fd: number
  /** The real port where 0 was asked for. */
  readonly port: number
  /** The address is free once the last process that holds the descriptor lets go of it. */
  close(): void
}

/**
 * Binds an address without listening: connections are refused until a child listens on the descriptor, and then wait in one queue
 * that all children accept from, whichever of them live. Throws with the operating system's code (`EADDRINUSE`, …) in the message.
 */
export function bindSocket(host: string, port: number): BoundSocket {
  const { _createServerHandle: create } = net as unknown as PrivateNet
  if (typeof create !== 'function') throw new Error(`Node ${process.version} cannot bind without listening`)
  const handle = create(host, port, net.isIPv6(host) ? 6 : 4, null, 0)
  if (typeof handle === 'number') throw new Error(getSystemErrorName(handle))
  const bound: { address?: string; port?: number } = {}
  const status = handle.getsockname(bound)
  // libuv keeps EADDRINUSE for `listen`. The socket is then not bound at all, and listening on it would be on some other port.
  if (status !== 0 || bound.port === undefined || bound.port === 0 || handle.fd < 0) {
    handle.close()
    throw new Error('EADDRINUSE')
  }
  return { fd: handle.fd, port: bound.port, close: () => handle.close() }
}

/**
 * Binds an address for datagrams without reading: they wait in one queue that all children read from. Throws as `bindSocket`.
 */
export function bindDatagramSocket(host: string, port: number): BoundSocket {
  const { UDP } = (process as unknown as PrivateProcess).binding('udp_wrap')
  const handle = new UDP()
  const status = net.isIPv6(host) ? handle.bind6(host, port, 0) : handle.bind(host, port, 0)
  const bound: { port?: number } = {}
  if (status !== 0 || handle.getsockname(bound) !== 0 || bound.port === undefined) {
    handle.close()
    throw new Error(getSystemErrorName(status))
  }
  return { fd: handle.fd, port: bound.port, close: () => handle.close() }
}
