// Backends that keep what each of their connections brought and how it ended, in clear and over TLS.
import { once } from 'node:events'
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net'
import { createServer as createTlsServer, type TLSSocket, type TlsOptions } from 'node:tls'
import type { TcpEnd } from './wire.ts'

/** One connection as the backend sees it. */
export class Recorded {
  /** The TCP socket. */
  readonly raw: Socket
  /** Payload; the same as `raw` without TLS. */
  readonly stream: Socket
  end: TcpEnd = 'open'
  /** Bytes of payload. */
  received = 0
  readonly #chunks: Buffer[] = []

  constructor(raw: Socket, stream: Socket, progress: () => void) {
    this.raw = raw
    this.stream = stream
    const ended = (how: TcpEnd) => {
      if (this.end === 'open') this.end = how
      progress()
    }
    stream.on('data', (chunk) => {
      this.#chunks.push(chunk)
      this.received += chunk.length
      progress()
    })
    stream.on('end', () => ended('fin'))
    for (const socket of new Set([raw, stream])) socket.on('error', () => ended('rst'))
    stream.on('close', progress)
  }

  get bytes(): Buffer {
    return Buffer.concat(this.#chunks)
  }

  destroy(): void {
    this.stream.destroy()
    this.raw.destroy()
  }
}

/** What a service does with a connection; the recorder has its own listeners already. */
export type Behaviour = (socket: Socket) => void

export class Recorder {
  readonly connections: Recorded[] = []
  readonly #server: Server
  readonly #sockets = new Set<Socket>()
  readonly #waiting = new Set<() => void>()

  protected constructor(begin: (raw: Socket, ready: (stream: Socket) => void) => void) {
    this.#server = createServer({ allowHalfOpen: true, noDelay: true }, (raw) => {
      this.#sockets.add(raw)
      raw.once('close', () => this.#sockets.delete(raw))
      begin(raw, (stream) => {
        this.connections.push(new Recorded(raw, stream, () => this.#progress()))
        this.#progress()
      })
    })
  }

  static async listen(behave: Behaviour = (socket) => socket.pipe(socket)): Promise<Recorder> {
    const recorder = new Recorder((raw, ready) => {
      ready(raw)
      behave(raw)
    })
    return recorder.open()
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port
  }

  get connects(): number {
    return this.connections.length
  }

  get bytes(): number {
    return this.connections.reduce((sum, { received }) => sum + received, 0)
  }

  /** Resolves once `holds` does; asked again whenever something arrives or ends. */
  async until(holds: () => boolean): Promise<void> {
    await new Promise<void>((resolve) => {
      const check = () => {
        if (!holds()) return
        this.#waiting.delete(check)
        resolve()
      }
      this.#waiting.add(check)
      check()
    })
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy()
    this.#server.close()
    await once(this.#server, 'close')
  }

  protected async open(): Promise<this> {
    this.#server.listen(0, '127.0.0.1')
    await once(this.#server, 'listening')
    return this
  }

  #progress(): void {
    for (const check of [...this.#waiting]) check()
  }
}

/** A backend over TLS; its connections count from the end of their handshake. */
export class TlsRecorder extends Recorder {
  static async listenTls(tls: TlsOptions): Promise<TlsRecorder> {
    const edge = createTlsServer({ ...tls, allowHalfOpen: true } as TlsOptions)
    edge.on('tlsClientError', () => {})
    const waiting = new WeakMap<Socket, (stream: Socket) => void>()
    edge.on('secureConnection', (stream: TLSSocket & { readonly _parent?: Socket }) => {
      if (stream._parent !== undefined) waiting.get(stream._parent)?.(stream)
    })
    const recorder = new TlsRecorder((raw, ready) => {
      raw.on('error', () => {})
      waiting.set(raw, ready)
      edge.emit('connection', raw)
    })
    return recorder.open()
  }
}
