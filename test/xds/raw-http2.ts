// HTTP/2 frame by frame, for clients that no library would be.
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'

export const FRAME = { data: 0, headers: 1, reset: 3, settings: 4, ping: 6, windowUpdate: 8, continuation: 9 }
export const END_HEADERS = 0x4
const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n')

/** RFC 9113 section 4.1. */
export function frame(
  type: number,
  flags: number,
  stream: number,
  payload: Uint8Array = Buffer.alloc(0),
): Buffer {
  const head = Buffer.alloc(9)
  head.writeUIntBE(payload.length, 0, 3)
  head.writeUInt8(type, 3)
  head.writeUInt8(flags, 4)
  head.writeUInt32BE(stream, 5)
  return Buffer.concat([head, payload])
}

/** A header with literal name and value; `indexed`: it also goes into the dynamic table (RFC 7541 sections 6.2.1 and 6.2.2). */
export function literal(name: string, value: string, indexed = false): Buffer {
  const head = Buffer.concat([Buffer.from([indexed ? 0x40 : 0, name.length]), Buffer.from(name)])
  return Buffer.concat([head, integer(value.length), Buffer.from(value)])
}

/** A string's length (RFC 7541 section 5.1, 7 bits of prefix). */
function integer(value: number): Buffer {
  if (value < 127) return Buffer.from([value])
  const bytes = [127]
  let rest = value - 127
  for (; rest >= 128; rest = Math.floor(rest / 128)) bytes.push((rest % 128) | 128)
  return Buffer.from([...bytes, rest])
}

/** The headers of a call of the ADS method. */
export const CALL = Buffer.concat([
  literal(':method', 'POST'),
  literal(':scheme', 'http'),
  literal(':authority', 'isthmus-discovery'),
  literal(':path', '/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources'),
  literal('content-type', 'application/grpc'),
])

/** A connection that has said its preface. What it is answered is dropped. */
export async function connection(port: number): Promise<Socket> {
  const socket = connect({ host: '127.0.0.1', port, noDelay: true })
  socket.on('error', () => {}).resume()
  await once(socket, 'connect')
  socket.write(Buffer.concat([PREFACE, frame(FRAME.settings, 0, 0)]))
  return socket
}

/** Writes up to so many chunks, until nobody is there any more. */
export async function pour(socket: Socket, rounds: number, chunk: (round: number) => Buffer): Promise<void> {
  for (let round = 0; round < rounds && socket.writable; round += 1) {
    await new Promise<void>((next) => {
      socket.write(chunk(round), () => next())
    })
  }
}
