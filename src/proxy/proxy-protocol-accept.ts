import type { Socket } from 'node:net'
import type { Connection } from './connection.ts'
import type { ProxyContext } from './context.ts'
import { formatAddress } from './endpoint.ts'
import { decodeProxyHeader, type ProxyHeader } from './proxy-protocol-decode.ts'

export interface ProxyHeaderOptions {
  readonly versions: readonly (1 | 2)[]
  /** From accept until the header is whole. */
  readonly timeoutMs: number
}

const FLAG = 'PROXY_HEADER'

/**
 * Reads the PROXY protocol header of a connection from one who may speak for others, and takes the client's address from it; then
 * `serve`, with the socket paused and nothing but the client's bytes in it. Without a header the connection ends without an answer:
 * it is one of the load balancer's own, or somebody who hides behind its address.
 */
export function acceptProxyHeader(
  context: ProxyContext,
  connection: Connection,
  raw: Socket,
  { versions, timeoutMs }: ProxyHeaderOptions,
  serve: () => void,
): void {
  const refuse = (reason: string) => connection.end({ flag: FLAG, reason }, 'close')
  connection.deadline(timeoutMs, { flag: FLAG, reason: `no whole PROXY header within ${timeoutMs} ms` })
  let received: Buffer = Buffer.alloc(0)
  const read = (segment: Buffer) =>
    context.guard(connection, () => {
      received = received.length === 0 ? segment : Buffer.concat([received, segment])
      const result = decodeProxyHeader(received)
      if (result.kind === 'incomplete') return
      raw.off('data', read)
      raw.off('end', ended)
      if (result.kind === 'error') {
        refuse(result.reason)
      } else if (!versions.includes(result.header.version)) {
        refuse(`version ${result.header.version} of the PROXY protocol is not allowed here`)
      } else {
        raw.pause()
        const rest = received.subarray(result.header.length)
        if (rest.length > 0) raw.unshift(rest)
        apply(connection, result.header)
        serve()
      }
    })
  const ended = () => refuse('it ended before its PROXY header was whole')
  raw.on('end', ended)
  raw.on('data', read)
}

/** What is not said of the client stays as the connection has it. */
function apply(connection: Connection, { addresses }: ProxyHeader): void {
  if (addresses === undefined) return
  const { source, destination } = addresses
  connection.directRemoteAddress = connection.remoteAddress
  connection.remoteAddress = formatAddress(source.ip, source.port)
  connection.addresses = {
    ...connection.addresses,
    remoteIp: source.ip,
    destinationIp: destination.ip,
    port: destination.port,
  }
}
