import { isIP } from 'node:net'

// TLS wire constants: RFC 8446 sections 4, 5, 6; RFC 6066 section 3 (server_name); RFC 7301 (ALPN).
const RECORD_HEADER = 5
const CONTENT = {
  changeCipherSpec: 20,
  alert: 21,
  handshake: 22,
  applicationData: 23,
  heartbeat: 24,
} as const
const CLIENT_HELLO = 1
const EXTENSION = { serverName: 0, alpn: 16, supportedVersions: 43 } as const
const HOST_NAME = 0
const TLS12 = 0x0303
const TLS13 = 0x0304
/** Longest plaintext fragment of a record. */
const MAX_FRAGMENT = 1 << 14

export const ALERT = {
  unexpectedMessage: 10,
  recordOverflow: 22,
  illegalParameter: 47,
  decodeError: 50,
  protocolVersion: 70,
  unrecognizedName: 112,
} as const

export interface HelloLimits {
  /** The handshake message, bytes. A ClientHello has to be small; Envoy's limit is the same. */
  readonly messageBytes: number
  /** TLS records that it may be spread over. */
  readonly records: number
}

export const HELLO_LIMITS: HelloLimits = { messageBytes: 16_384, records: 64 }

export interface ClientHello {
  /** Lower case, without any change else: the one spelling that routes are looked up by. Undefined: none was sent. */
  readonly sni: string | undefined
  /** In the client's order; bytes as Latin-1. */
  readonly alpn: readonly string[]
  /** Versions offered, GREASE among them. */
  readonly versions: readonly number[]
}

export type HelloResult =
  | { readonly kind: 'incomplete' }
  | { readonly kind: 'hello'; readonly hello: ClientHello }
  /** `alert`: what to answer; undefined = this is no TLS, so say nothing. */
  | { readonly kind: 'error'; readonly alert: number | undefined; readonly reason: string }

/** A fatal alert record, as it goes on the wire. */
export function alertRecord(alert: number): Buffer {
  return Buffer.from([CONTENT.alert, 0x03, 0x03, 0x00, 0x02, 0x02, alert])
}

const INCOMPLETE: HelloResult = { kind: 'incomplete' }

/**
 * Thrown inside this file only, and turned into an error result at its edge: the parser below stays a straight line. No Error, since
 * the stack of one costs more than all the rest: a malformed name would be refused later than an unknown one, which the clock tells.
 */
class Malformed {
  readonly alert: number | undefined
  readonly reason: string

  constructor(alert: number | undefined, reason: string) {
    this.alert = alert
    this.reason = reason
  }
}

/**
 * Reads a ClientHello from everything that a client has sent so far. Pure; call it again with more bytes while it says
 * `incomplete`. It takes the whole handshake message, over as many records and segments as the limits allow, for a parser that
 * stops at the first record sees no server name in a fragmented hello (CVE-2026-32305). Bytes after the hello are not looked at.
 */
export function parseClientHello(bytes: Buffer, limits: HelloLimits = HELLO_LIMITS): HelloResult {
  try {
    const message = handshakeMessage(bytes, limits)
    return message === undefined ? INCOMPLETE : { kind: 'hello', hello: readHello(message) }
  } catch (error) {
    if (error instanceof Malformed) return { kind: 'error', alert: error.alert, reason: error.reason }
    throw error
  }
}

/** The body of the ClientHello, put together from its records; undefined while bytes are missing. */
function handshakeMessage(bytes: Buffer, limits: HelloLimits): Cursor | undefined {
  const fragments: Buffer[] = []
  let have = 0
  let records = 0
  let length: number | undefined
  for (let at = 0; at < bytes.length; ) {
    const size = recordLength(bytes, at)
    if (size === undefined) return undefined
    records += 1
    if (records > limits.records)
      throw new Malformed(ALERT.decodeError, `more than ${limits.records} records for one ClientHello`)
    const from = at + RECORD_HEADER
    const to = Math.min(bytes.length, from + size)
    if (records === 1) {
      // The usual case: one record holds it all, and nothing is copied.
      length = messageLength(bytes, from, to, limits)
      if (length !== undefined && to - from >= 4 + length)
        return new Cursor(bytes, from + 4, from + 4 + length)
    }
    fragments.push(bytes.subarray(from, to))
    have += to - from
    at = from + size
    if (length === undefined) {
      const joined = Buffer.concat(fragments, have)
      length = messageLength(joined, 0, have, limits)
    }
    if (length !== undefined && have >= 4 + length)
      return new Cursor(Buffer.concat(fragments, have), 4, 4 + length)
  }
  return undefined
}

/** The fragment's length of the record at `at`; undefined while its header is not whole. Judged byte by byte, so garbage is known at once. */
function recordLength(bytes: Buffer, at: number): number | undefined {
  const type = bytes[at] ?? 0
  // An SSL 2 hello shows itself only in its third byte.
  if (at === 0 && (type & 0x80) !== 0 && bytes.length < 3) return undefined
  if (type !== CONTENT.handshake) throw wrongRecord(bytes, at, type)
  const major = bytes[at + 1]
  if (major === undefined) return undefined
  if (major !== 3)
    throw new Malformed(
      at === 0 ? ALERT.protocolVersion : ALERT.illegalParameter,
      'a record of no version of TLS',
    )
  if (at + RECORD_HEADER > bytes.length) return undefined
  const size = bytes.readUInt16BE(at + 3)
  if (size === 0) throw new Malformed(ALERT.unexpectedMessage, 'an empty handshake record')
  if (size > MAX_FRAGMENT) throw new Malformed(ALERT.recordOverflow, `a record of ${size} bytes`)
  return size
}

function wrongRecord(bytes: Buffer, at: number, type: number): Malformed {
  if (type >= CONTENT.changeCipherSpec && type <= CONTENT.heartbeat) {
    return new Malformed(
      ALERT.unexpectedMessage,
      `a TLS record of type ${type} where a ClientHello was expected`,
    )
  }
  // SSL 2: two bytes of length with the high bit set, then CLIENT-HELLO.
  if (at === 0 && (type & 0x80) !== 0 && bytes[2] === CLIENT_HELLO) {
    return new Malformed(ALERT.protocolVersion, 'an SSL 2 hello')
  }
  return new Malformed(at === 0 ? undefined : ALERT.unexpectedMessage, 'no TLS')
}

/** The length that the handshake header between `from` and `to` claims; undefined while it is not whole. */
function messageLength(bytes: Buffer, from: number, to: number, limits: HelloLimits): number | undefined {
  if (to === from) return undefined
  const type = bytes.readUInt8(from)
  if (type !== CLIENT_HELLO) {
    throw new Malformed(
      ALERT.unexpectedMessage,
      `a handshake message of type ${type} where a ClientHello was expected`,
    )
  }
  if (to - from < 4) return undefined
  const length = bytes.readUIntBE(from + 1, 3)
  if (length > limits.messageBytes) {
    const alert = length >= 1 << 17 ? ALERT.illegalParameter : ALERT.decodeError
    throw new Malformed(alert, `a ClientHello of ${length} bytes; at most ${limits.messageBytes} are taken`)
  }
  return length
}

/** RFC 8446 section 4.1.2. */
function readHello(body: Cursor): ClientHello {
  const legacyVersion = body.u16('version')
  body.skip(32, 'random')
  if (body.vector8('session id').length > 32)
    throw new Malformed(ALERT.decodeError, 'a session id of more than 32 bytes')
  const ciphers = body.vector16('cipher suites').length
  if (ciphers === 0 || ciphers % 2 !== 0)
    throw new Malformed(ALERT.decodeError, 'cipher suites of a length that cannot be')
  if (body.vector8('compression methods').length === 0)
    throw new Malformed(ALERT.decodeError, 'no compression method')
  const extensions: Extensions = body.atEnd ? {} : readExtensions(body)
  const versions = readVersions(extensions.supportedVersions) ?? [legacyVersion]
  if (
    !versions.some((version) => version === TLS12 || version === TLS13) &&
    !(versions[0] === legacyVersion && legacyVersion >= TLS12)
  ) {
    throw new Malformed(ALERT.protocolVersion, 'offers neither TLS 1.2 nor 1.3')
  }
  // Structure before names: a broken hello is a broken hello, whatever it asks for.
  const alpn = readAlpn(extensions.alpn)
  return { sni: readServerName(extensions.serverName), alpn, versions }
}

/** Those that we look into. */
type Extensions = Partial<Record<keyof typeof EXTENSION, Cursor>>

/** By extension type, in which hello it was seen last: finds one that comes twice without a set for each hello. */
const seenIn = new Uint32Array(1 << 16)
let helloNumber = 0

function readExtensions(body: Cursor): Extensions {
  const block = body.vector16('extensions')
  if (!body.atEnd) throw new Malformed(ALERT.decodeError, 'bytes after the extensions')
  helloNumber = (helloNumber + 1) >>> 0
  // Once in four thousand million: nothing that was seen then counts now.
  if (helloNumber === 0) {
    seenIn.fill(0)
    helloNumber = 1
  }
  const found: Extensions = {}
  while (!block.atEnd) {
    const type = block.u16('extension type')
    const length = block.u16('extension')
    if (seenIn[type] === helloNumber) {
      block.skip(length, 'extension')
      throw new Malformed(ALERT.illegalParameter, `extension ${type} twice`)
    }
    seenIn[type] = helloNumber
    if (type === EXTENSION.serverName) found.serverName = block.window(length, 'extension')
    else if (type === EXTENSION.alpn) found.alpn = block.window(length, 'extension')
    else if (type === EXTENSION.supportedVersions) found.supportedVersions = block.window(length, 'extension')
    else block.skip(length, 'extension')
  }
  return found
}

function readVersions(data: Cursor | undefined): number[] | undefined {
  if (data === undefined) return undefined
  const list = data.vector8('supported versions')
  if (!data.atEnd || list.atEnd)
    throw new Malformed(ALERT.decodeError, 'supported_versions of a length that cannot be')
  const versions: number[] = []
  while (!list.atEnd) versions.push(list.u16('supported version'))
  return versions
}

function readAlpn(data: Cursor | undefined): string[] {
  if (data === undefined) return []
  const list = data.vector16('protocol names')
  if (!data.atEnd || list.atEnd)
    throw new Malformed(ALERT.decodeError, 'an ALPN list of a length that cannot be')
  const names: string[] = []
  while (!list.atEnd) {
    const name = list.vector8('protocol name')
    if (name.length === 0) throw new Malformed(ALERT.decodeError, 'an empty protocol name')
    names.push(name.latin1())
  }
  return names
}

/** RFC 6066 section 3: a list that may, in practice, hold one host_name and nothing else (OpenSSL reads it so too). */
function readServerName(data: Cursor | undefined): string | undefined {
  if (data === undefined) return undefined
  const list = data.vector16('server names')
  if (!data.atEnd || list.atEnd)
    throw new Malformed(ALERT.decodeError, 'a server name list of a length that cannot be')
  if (list.u8('name type') !== HOST_NAME)
    throw new Malformed(ALERT.decodeError, 'a server name of unknown type')
  const name = list.vector16('server name')
  if (!list.atEnd) throw new Malformed(ALERT.decodeError, 'more than one server name')
  const error = serverNameError(name)
  if (error !== undefined) throw new Malformed(ALERT.unrecognizedName, error)
  // Only A-Z can change, since everything is ASCII here.
  return name.latin1().toLowerCase()
}

/** What is wrong with the bytes of a name; whether anything answers to it is not asked here. */
function serverNameError(name: Cursor): string | undefined {
  if (name.length === 0) return 'an empty server name'
  if (name.length > 255) return `a server name of ${name.length} bytes`
  for (let at = 0; at < name.length; at += 1) {
    const byte = name.byteAt(at)
    if (byte <= 0x20 || byte >= 0x7f)
      return `a server name with the byte 0x${byte.toString(16).padStart(2, '0')}`
  }
  if (name.byteAt(name.length - 1) === 0x2e) return 'a server name with a trailing dot'
  if (isIP(name.latin1()) !== 0) return 'an IP address as server name'
  return undefined
}

/**
 * Reads forward between two places of a buffer, which it does not copy; whatever is too short is a decode_error that says what was
 * being read.
 */
class Cursor {
  readonly #bytes: Buffer
  readonly #end: number
  #at: number

  constructor(bytes: Buffer, from: number, end: number) {
    this.#bytes = bytes
    this.#at = from
    this.#end = end
  }

  /** Bytes left. */
  get length(): number {
    return this.#end - this.#at
  }

  get atEnd(): boolean {
    return this.#at === this.#end
  }

  byteAt(offset: number): number {
    return this.#bytes[this.#at + offset] ?? 0
  }

  latin1(): string {
    return this.#bytes.toString('latin1', this.#at, this.#end)
  }

  skip(length: number, what: string): void {
    if (length > this.#end - this.#at) throw new Malformed(ALERT.decodeError, `ends within its ${what}`)
    this.#at += length
  }

  window(length: number, what: string): Cursor {
    const from = this.#at
    this.skip(length, what)
    return new Cursor(this.#bytes, from, from + length)
  }

  u8(what: string): number {
    this.skip(1, what)
    return this.#bytes[this.#at - 1] ?? 0
  }

  u16(what: string): number {
    this.skip(2, what)
    return ((this.#bytes[this.#at - 2] ?? 0) << 8) | (this.#bytes[this.#at - 1] ?? 0)
  }

  vector8(what: string): Cursor {
    return this.window(this.u8(what), what)
  }

  vector16(what: string): Cursor {
    return this.window(this.u16(what), what)
  }
}
