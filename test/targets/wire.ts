// A client that sees and controls every byte and every end of its TCP connection, with or without TLS on top.
import { once } from 'node:events'
import { type AddressInfo, connect as connectTcp, type Socket } from 'node:net'
import { Duplex } from 'node:stream'
import { type ConnectionOptions, connect as connectTls, type TLSSocket } from 'node:tls'
import {
  CONTENT,
  KeyLog,
  openServerRecords,
  splitRecords,
  type Tls13Keys,
  type TlsRecord,
} from './tls-records.ts'

/** How the other side ended a TCP connection. */
export type TcpEnd = 'fin' | 'rst' | 'open'

/** What a client saw, in the order of its importance. */
export interface Seen {
  /** The client's handshake came to its end: in TLS 1.3 that is before the server has seen the certificate. */
  readonly handshake: boolean
  /** A ServerHello came: somebody answers to this name. */
  readonly serverHello: boolean
  /** `112`, `close_notify`; an encrypted one of TLS 1.2 that nobody can read is `?`. */
  readonly alerts: readonly string[]
  /** Payload. */
  readonly data: Buffer
  readonly end: TcpEnd
}

/** What to do with the bytes of a TLS client before they leave: how they are cut into segments. */
export type Segments = (bytes: Buffer, flight: number) => readonly Buffer[]

export interface WireOptions {
  readonly segments?: Segments
  readonly keepOpen?: boolean
}

/** A TCP connection whose bytes and end are kept. */
export class Wire extends Duplex {
  readonly socket: Socket
  readonly received: Buffer[] = []
  tcpEnd: TcpEnd = 'open'
  readonly #segments: Segments | undefined
  readonly #keepOpen: boolean
  #flight = 0
  #port = 0

  /** `keepOpen`: a TLS client's close_notify is not followed by a FIN. */
  constructor(port: number, options: WireOptions = {}) {
    super({ allowHalfOpen: true })
    this.setMaxListeners(0)
    this.#segments = options.segments
    this.#keepOpen = options.keepOpen ?? false
    this.socket = connectTcp({ host: '127.0.0.1', port, allowHalfOpen: true, noDelay: true })
    this.socket.once('connect', () => {
      this.#port = (this.socket.address() as AddressInfo).port
    })
    this.socket.on('data', (chunk) => {
      this.received.push(chunk)
      this.push(chunk)
      this.emit('progress')
    })
    this.socket.on('end', () => this.#ended('fin'))
    // Also a write into what the other side has reset.
    this.socket.on('error', () => this.#ended('rst'))
    this.socket.on('close', () => this.emit('progress'))
    this.on('error', () => {})
  }

  /** The client's own; 0 before it is connected. */
  get port(): number {
    return this.#port
  }

  get bytes(): Buffer {
    return Buffer.concat(this.received)
  }

  /** Resolves once `holds` does; asked again whenever something arrives or ends. */
  async until(holds: () => boolean): Promise<void> {
    while (!holds()) await once(this, 'progress')
  }

  /** The other side has ended, or the connection is gone. */
  ended(): Promise<void> {
    return this.until(() => this.tcpEnd !== 'open' || this.socket.destroyed)
  }

  override _read(): void {}

  override _write(chunk: Buffer, _encoding: string, done: (error?: Error | null) => void): void {
    void this.#send(chunk).then(
      () => done(),
      () => done(),
    )
  }

  override _final(done: (error?: Error | null) => void): void {
    if (!this.#keepOpen) this.socket.end()
    done()
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    done(error)
  }

  async #send(chunk: Buffer): Promise<void> {
    const segments = this.#segments?.(chunk, this.#flight++) ?? [chunk]
    for (const segment of segments) {
      if (!this.socket.writable) return
      // Each is in the kernel before the next is written: with TCP_NODELAY it is a segment of its own.
      await new Promise<void>((resolve) => this.socket.write(segment, () => resolve()))
    }
  }

  #ended(how: TcpEnd): void {
    if (this.tcpEnd === 'open') this.tcpEnd = how
    this.push(null)
    this.emit('progress')
  }
}

/** A TLS client over a `Wire`. */
export class WireTls {
  readonly wire: Wire
  readonly tls: TLSSocket
  handshake = false
  /** Bytes of payload. */
  received = 0
  /** Node's word for what went wrong. */
  error: NodeJS.ErrnoException | undefined
  readonly #data: Buffer[] = []
  readonly #log = new KeyLog()

  constructor(port: number, options: ConnectionOptions, wire: WireOptions = {}) {
    this.wire = new Wire(port, wire)
    this.tls = connectTls({
      socket: this.wire,
      rejectUnauthorized: false,
      ciphers: 'TLS_AES_128_GCM_SHA256:ECDHE-ECDSA-AES128-GCM-SHA256:@SECLEVEL=0',
      allowHalfOpen: true,
      ...options,
    } as ConnectionOptions)
    this.tls.on('keylog', (line: Buffer) => this.#log.add(line))
    const progress = () => this.wire.emit('progress')
    this.tls.on('secureConnect', () => {
      this.handshake = true
      progress()
    })
    this.tls.on('error', (error) => {
      this.error = error
      progress()
    })
    this.tls.on('data', (chunk) => {
      this.#data.push(chunk)
      this.received += chunk.length
      progress()
    })
    this.tls.on('end', progress)
    this.wire.on('end', progress)
    this.wire.on('close', progress)
  }

  get port(): number {
    return this.wire.port
  }

  get data(): Buffer {
    return Buffer.concat(this.#data)
  }

  /** The client's handshake is over, or the connection is. */
  async secured(): Promise<boolean> {
    await this.wire.until(() => this.handshake || this.wire.tcpEnd !== 'open' || this.error !== undefined)
    return this.handshake
  }

  /** The other side has ended, and the TLS library has had everything that came before. */
  ended(): Promise<void> {
    const { wire } = this
    return wire.until(
      () => wire.socket.destroyed || (wire.tcpEnd !== 'open' && (wire.readableEnded || wire.destroyed)),
    )
  }

  /** The keys for saying something inside the connection that its TLS library does not say; the library must say no more. */
  clientKeys(): Tls13Keys {
    const keys = this.#log.keys('CLIENT_TRAFFIC_SECRET_0')
    if (keys === undefined) throw new Error('no TLS 1.3 connection')
    return keys
  }

  /** Everything that came, as far as it can be read. */
  records(): TlsRecord[] {
    return openServerRecords(splitRecords(this.wire.bytes).records, this.#log)
  }

  seen(): Seen {
    return {
      ...seenOf(this.wire, this.records()),
      handshake: this.handshake,
      data: this.data,
    }
  }

  /** FIN without close_notify. */
  fin(): void {
    this.wire.socket.end()
  }

  rst(): void {
    this.wire.socket.resetAndDestroy()
  }

  destroy(): void {
    this.wire.socket.destroy()
    this.tls.destroy()
  }
}

function seenOf(wire: Wire, records: readonly TlsRecord[]): Seen {
  return {
    handshake: false,
    serverHello: records.some(({ type, body }) => type === CONTENT.handshake && body[0] === 2),
    alerts: records
      .filter(({ type }) => type === CONTENT.alert)
      .map(({ body }) => (body.length !== 2 ? '?' : body[1] === 0 ? 'close_notify' : String(body[1]))),
    data: Buffer.alloc(0),
    end: wire.tcpEnd,
  }
}

/** What a client without TLS saw. */
export function seenRaw(wire: Wire): Seen {
  const { records, rest } = splitRecords(wire.bytes)
  const isTls = wire.bytes.length === 0 || (records.length > 0 && rest.length === 0)
  return { ...seenOf(wire, isTls ? records : []), data: isTls ? Buffer.alloc(0) : wire.bytes }
}
