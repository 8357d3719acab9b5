// HTTP/2 and protobuf as far as a load client needs them, by hand: what measures must cost far less than what it measures.
// RFC 9113 (frames), RFC 7541 (header blocks, here literals only), gRPC over HTTP/2.

export const FRAME = {
  data: 0,
  headers: 1,
  reset: 3,
  settings: 4,
  ping: 6,
  goaway: 7,
  windowUpdate: 8,
} as const
export const FLAG = { endStream: 1, ack: 1, endHeaders: 4 } as const
export const FRAME_HEADER = 9

export const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'latin1')

export function frame(type: number, flags: number, stream: number, payload: Uint8Array): Buffer {
  const whole = Buffer.allocUnsafe(FRAME_HEADER + payload.length)
  whole.writeUIntBE(payload.length, 0, 3)
  whole[3] = type
  whole[4] = flags
  whole.writeUInt32BE(stream, 5)
  whole.set(payload, FRAME_HEADER)
  return whole
}

const uint32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32BE(value)
  return bytes
}

const WINDOW = 0x7fff_ffff
const INITIAL_WINDOW = 65_535

/** Windows that no run fills, so that no WINDOW_UPDATE is ever due. */
export const SETTINGS = Buffer.concat([
  frame(FRAME.settings, 0, 0, Buffer.concat([Buffer.from([0, 4]), uint32(WINDOW)])),
  frame(FRAME.windowUpdate, 0, 0, uint32(WINDOW - INITIAL_WINDOW)),
])

/** A header field that is not indexed, with a new name (RFC 7541, 6.2.2), neither part Huffman-coded. */
function literal(name: string, value: string): Buffer {
  return Buffer.concat([
    Buffer.from([0, name.length]),
    Buffer.from(name),
    Buffer.from([value.length]),
    Buffer.from(value),
  ])
}

export function requestHeaders(path: string): Buffer {
  const fields = [
    [':method', 'POST'],
    [':scheme', 'http'],
    [':path', path],
    [':authority', 'bench'],
    ['content-type', 'application/grpc'],
    ['te', 'trailers'],
  ] as const
  return frame(
    FRAME.headers,
    FLAG.endHeaders,
    1,
    Buffer.concat(fields.map(([name, value]) => literal(name, value))),
  )
}

function varint(value: number): Buffer {
  const bytes: number[] = []
  let left = value
  while (left > 127) {
    bytes.push((left & 127) | 128)
    left = Math.floor(left / 128)
  }
  return Buffer.from([...bytes, left])
}

/** A protobuf field of bytes or text. */
export function field(number: number, value: Uint8Array | string): Buffer {
  const bytes = Buffer.from(value)
  return Buffer.concat([Buffer.from([(number << 3) | 2]), varint(bytes.length), bytes])
}

/** A gRPC message: not compressed, its length, itself. */
export function message(body: Uint8Array): Buffer {
  return Buffer.concat([Buffer.from([0]), uint32(body.length), body])
}

export interface Response {
  readonly type: string
  /** Where the nonce stands in `bytes`. */
  readonly nonce: Uint8Array
  readonly resources: number
  readonly bytes: number
}

const TYPES = new Map<number, string>()

/** `DeltaDiscoveryResponse`: each resource is walked through and, where `seen` is given, told by name and version. */
export function readResponse(bytes: Buffer, seen?: (name: string, version: string) => void): Response {
  let type = ''
  let nonce = bytes.subarray(0, 0)
  let resources = 0
  let at = 0
  while (at < bytes.length) {
    const tag = bytes[at++] as number
    let length = 0
    for (let shift = 1; ; shift *= 128) {
      const byte = bytes[at++] as number
      length += (byte & 127) * shift
      if (byte < 128) break
    }
    const end = at + length
    if (end > bytes.length) throw new Error('a response that ends in the middle')
    if (tag === 0x12) {
      resources++
      readResource(bytes, at, end, seen)
    } else if (tag === 0x22) type = typeOf(bytes, at, end)
    else if (tag === 0x2a) nonce = bytes.subarray(at, end)
    else if ((tag & 7) !== 2) throw new Error(`unexpected wire type of tag ${tag}`)
    at = end
  }
  return { type, nonce, resources, bytes: bytes.length }
}

/** Known type URLs differ in length. */
function typeOf(bytes: Buffer, at: number, end: number): string {
  let type = TYPES.get(end - at)
  if (type === undefined) {
    type = bytes.toString('latin1', at, end)
    TYPES.set(end - at, type)
  }
  return type
}

/** `Resource`: name 3, version 1, resource 2. */
function readResource(
  bytes: Buffer,
  start: number,
  end: number,
  seen?: (name: string, version: string) => void,
): void {
  let name = ''
  let version = ''
  let body = false
  let at = start
  while (at < end) {
    const tag = bytes[at++] as number
    let length = 0
    for (let shift = 1; ; shift *= 128) {
      const byte = bytes[at++] as number
      length += (byte & 127) * shift
      if (byte < 128) break
    }
    if (tag === 0x1a && seen !== undefined) name = bytes.toString('latin1', at, at + length)
    else if (tag === 0x0a && seen !== undefined) version = bytes.toString('latin1', at, at + length)
    else if (tag === 0x12) body = length > 0
    at += length
  }
  if (at !== end || !body) throw new Error('a resource without a body')
  seen?.(name, version)
}
