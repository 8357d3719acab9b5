// A backend that keeps what each of its connections brought and how it ended.
import { once } from 'node:events'
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net'
import type { TcpEnd } from './wire.ts'

export interface Recorded {
  readonly socket: Socket
  readonly bytes: Buffer
  readonly end: TcpEnd
}

class Connection implements Recorded {
  readonly socket: Socket
  readonly #chunks: Buffer[] = []
  end: TcpEnd = 'open'

  constructor(socket: Socket, progress: () => void) {
    this.socket = socket
    const ended = (how: TcpEnd) => {
      if (this.end === 'open') this.end = how
      progress()
    }
    socket.on('data', (chunk) => {
      this.#chunks.push(chunk)
      progress()
    })
    socket.on('end', () => ended('fin'))
    socket.on('error', () => ended('rst'))
    socket.on('close', progress)
  }

  get bytes(): Buffer {
    return Buffer.concat(this.#chunks)
  }
}

/** What a service does with a connection; the recorder has its own listeners already. */
export type Behaviour = (socket: Socket) => void

export class Recorder {
  readonly connections: Connection[] = []
  readonly #server: Server
  readonly #waiting = new Set<() => void>()

  private constructor(behave: Behaviour) {
    this.#server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
      this.connections.push(new Connection(socket, () => this.#progress()))
      behave(socket)
      this.#progress()
    })
  }

  static async listen(behave: Behaviour = (socket) => socket.pipe(socket)): Promise<Recorder> {
    const recorder = new Recorder(behave)
    recorder.#server.listen(0, '127.0.0.1')
    await once(recorder.#server, 'listening')
    return recorder
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port
  }

  get connects(): number {
    return this.connections.length
  }

  get bytes(): number {
    return this.connections.reduce((sum, { bytes }) => sum + bytes.length, 0)
  }

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
    for (const { socket } of this.connections) socket.destroy()
    this.#server.close()
    await once(this.#server, 'close')
  }

  #progress(): void {
    for (const check of [...this.#waiting]) check()
  }
}
