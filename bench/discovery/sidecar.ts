// One Delta sidecar: a connection, one ADS stream on it, everything that it is sent decoded and ACKed.
import type { Socket } from 'node:net'
import {
  FLAG,
  FRAME,
  FRAME_HEADER,
  field,
  frame,
  message,
  PREFACE,
  type Response,
  readResponse,
  requestHeaders,
  SETTINGS,
} from './wire.ts'

const PATH = '/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources'
export const TYPE = {
  cluster: 'type.googleapis.com/envoy.config.cluster.v3.Cluster',
  endpoints: 'type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment',
  listener: 'type.googleapis.com/envoy.config.listener.v3.Listener',
} as const

const MAX_FRAME = 16_384
const WINDOW = 65_535

export interface SidecarEvents {
  /** Before the ACK goes out. `names` only where `wantsNames` says so. */
  onResponse(sidecar: Sidecar, response: Response): void
  /** Each resource of a response that is not larger than `namesUpTo` bytes. */
  onResource?(sidecar: Sidecar, name: string, version: string): void
  onEnd(sidecar: Sidecar, why: string): void
}

export class Sidecar {
  readonly index: number
  readonly #socket: Socket
  readonly #events: SidecarEvents
  readonly #seen: (name: string, version: string) => void
  /** Names are read from responses up to this many bytes; those of thousands of resources are only counted. */
  namesUpTo = 0
  #rest: Buffer = Buffer.alloc(0)
  #parts: Buffer[] = []
  #size = 0
  #wanted = -1
  #connectionWindow = WINDOW
  #streamWindow = WINDOW
  #initialWindow = WINDOW
  #unsent: Buffer[] = []
  received = 0

  constructor(index: number, socket: Socket, events: SidecarEvents) {
    this.index = index
    this.#socket = socket
    this.#events = events
    this.#seen = (name, version) => events.onResource?.(this, name, version)
    socket.setNoDelay(true)
    socket.on('data', (chunk: Buffer) => this.#onData(chunk))
    socket.on('error', (error) => events.onEnd(this, error.message))
    socket.on('close', () => events.onEnd(this, 'closed'))
    socket.write(Buffer.concat([PREFACE, SETTINGS]))
  }

  open(): void {
    this.#socket.write(requestHeaders(PATH))
  }

  /** A DeltaDiscoveryRequest as it goes out. */
  send(request: Uint8Array): void {
    const whole = message(request)
    for (let at = 0; at < whole.length; at += MAX_FRAME) this.#unsent.push(whole.subarray(at, at + MAX_FRAME))
    this.#flush()
  }

  close(): void {
    this.#socket.removeAllListeners('close')
    this.#socket.removeAllListeners('error')
    this.#socket.on('error', () => {})
    this.#socket.destroy()
  }

  #flush(): void {
    let payload = this.#unsent[0]
    while (payload !== undefined && payload.length <= Math.min(this.#connectionWindow, this.#streamWindow)) {
      this.#connectionWindow -= payload.length
      this.#streamWindow -= payload.length
      this.#socket.write(frame(FRAME.data, 0, 1, payload))
      this.#unsent.shift()
      payload = this.#unsent[0]
    }
  }

  #onData(chunk: Buffer): void {
    this.received += chunk.length
    const bytes = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk])
    let at = 0
    while (bytes.length - at >= FRAME_HEADER) {
      const length = bytes.readUIntBE(at, 3)
      const end = at + FRAME_HEADER + length
      if (end > bytes.length) break
      this.#onFrame(
        bytes[at + 3] as number,
        bytes[at + 4] as number,
        bytes.readUInt32BE(at + 5),
        bytes.subarray(at + FRAME_HEADER, end),
      )
      at = end
    }
    this.#rest = at === bytes.length ? Buffer.alloc(0) : Buffer.from(bytes.subarray(at))
  }

  #onFrame(type: number, flags: number, stream: number, payload: Buffer): void {
    if (type === FRAME.data) this.#onPayload(payload)
    else if (type === FRAME.settings && (flags & FLAG.ack) === 0) this.#onSettings(payload)
    else if (type === FRAME.ping && (flags & FLAG.ack) === 0)
      this.#socket.write(frame(FRAME.ping, FLAG.ack, 0, payload))
    else if (type === FRAME.windowUpdate) {
      if (stream === 0) this.#connectionWindow += payload.readUInt32BE(0)
      else this.#streamWindow += payload.readUInt32BE(0)
      this.#flush()
    } else if (type === FRAME.headers && (flags & FLAG.endStream) !== 0)
      this.#events.onEnd(this, 'the stream ended')
    else if (type === FRAME.reset || type === FRAME.goaway)
      this.#events.onEnd(
        this,
        `frame of type ${type}: ${payload.toString('latin1').replaceAll(/[^ -~]/g, '.')} ${payload.toString('hex').slice(0, 32)}`,
      )
  }

  #onSettings(payload: Buffer): void {
    for (let at = 0; at + 6 <= payload.length; at += 6) {
      if (payload.readUInt16BE(at) !== 4) continue
      const window = payload.readUInt32BE(at + 2)
      this.#streamWindow += window - this.#initialWindow
      this.#initialWindow = window
    }
    this.#socket.write(frame(FRAME.settings, FLAG.ack, 0, Buffer.alloc(0)))
    this.#flush()
  }

  /** Messages, whatever the frames that they come in. */
  #onPayload(payload: Buffer): void {
    this.#parts.push(payload)
    this.#size += payload.length
    for (;;) {
      if (this.#wanted < 0) {
        if (this.#size < 5) return
        const head = this.#joined()
        this.#wanted = 5 + head.readUInt32BE(1)
      }
      if (this.#size < this.#wanted) return
      const bytes = this.#joined()
      const one = bytes.subarray(5, this.#wanted)
      const rest = bytes.subarray(this.#wanted)
      this.#parts = rest.length === 0 ? [] : [rest]
      this.#size = rest.length
      this.#wanted = -1
      this.#onMessage(one)
    }
  }

  #joined(): Buffer {
    const [only] = this.#parts
    const joined = this.#parts.length === 1 && only !== undefined ? only : Buffer.concat(this.#parts)
    this.#parts = [joined]
    return joined
  }

  #onMessage(bytes: Buffer): void {
    const response = readResponse(bytes, bytes.length <= this.namesUpTo ? this.#seen : undefined)
    this.#events.onResponse(this, response)
    this.send(Buffer.concat([field(2, response.type), field(6, response.nonce)]))
  }
}
