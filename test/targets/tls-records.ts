// TLS records as they came over the wire, and what is inside those of TLS 1.3, read with the secrets that the client logged: the
// only way to tell close_notify from a bare FIN, and to say things inside a connection that no TLS library would say.
import { createCipheriv, createDecipheriv, createHmac } from 'node:crypto'

export const CONTENT = { changeCipherSpec: 20, alert: 21, handshake: 22, applicationData: 23 } as const

export interface TlsRecord {
  /** Content type; inside an encrypted record of TLS 1.3 the inner one. */
  readonly type: number
  readonly body: Buffer
}

/** Whole records; what is left over is not a record yet. */
export function splitRecords(bytes: Buffer): { readonly records: TlsRecord[]; readonly rest: Buffer } {
  const records: TlsRecord[] = []
  let at = 0
  while (at + 5 <= bytes.length) {
    const end = at + 5 + bytes.readUInt16BE(at + 3)
    if (end > bytes.length) break
    records.push({ type: bytes[at] ?? 0, body: bytes.subarray(at + 5, end) })
    at = end
  }
  return { records, rest: bytes.subarray(at) }
}

/** RFC 8446 section 7.1, for SHA-256. */
function expandLabel(secret: Buffer, label: string, length: number): Buffer {
  const full = Buffer.from(`tls13 ${label}`)
  const info = Buffer.concat([Buffer.from([0, length, full.length]), full, Buffer.from([0, 1])])
  return createHmac('sha256', secret).update(info).digest().subarray(0, length)
}

/** One direction under one traffic secret of TLS_AES_128_GCM_SHA256. */
export class Tls13Keys {
  readonly #secret: Buffer
  readonly #key: Buffer
  readonly #iv: Buffer
  #sequence = 0

  constructor(secret: Buffer) {
    this.#secret = secret
    this.#key = expandLabel(secret, 'key', 16)
    this.#iv = expandLabel(secret, 'iv', 12)
  }

  /** The keys after a KeyUpdate. */
  next(): Tls13Keys {
    return new Tls13Keys(expandLabel(this.#secret, 'traffic upd', 32))
  }

  /** Undefined when the record is not for these keys. */
  open(body: Buffer): TlsRecord | undefined {
    const decipher = createDecipheriv('aes-128-gcm', this.#key, this.#nonce())
    decipher.setAAD(header(body.length))
    decipher.setAuthTag(body.subarray(-16))
    try {
      const inner = Buffer.concat([decipher.update(body.subarray(0, -16)), decipher.final()])
      let end = inner.length
      while (end > 0 && inner[end - 1] === 0) end -= 1
      return { type: inner[end - 1] ?? 0, body: inner.subarray(0, end - 1) }
    } catch {
      return undefined
    }
  }

  seal(type: number, content: Buffer): Buffer {
    const cipher = createCipheriv('aes-128-gcm', this.#key, this.#nonce())
    const head = header(content.length + 1 + 16)
    cipher.setAAD(head)
    const body = Buffer.concat([cipher.update(Buffer.concat([content, Buffer.from([type])])), cipher.final()])
    return Buffer.concat([head, body, cipher.getAuthTag()])
  }

  #nonce(): Buffer {
    const nonce = Buffer.from(this.#iv)
    nonce.writeUInt32BE((nonce.readUInt32BE(8) ^ this.#sequence) >>> 0, 8)
    this.#sequence += 1
    return nonce
  }
}

function header(length: number): Buffer {
  return Buffer.from([CONTENT.applicationData, 3, 3, length >> 8, length & 0xff])
}

/** Secrets by NSS label, from the lines that a client logs. */
export class KeyLog {
  readonly #secrets = new Map<string, Buffer>()

  add(line: Buffer): void {
    const [label = '', , secret = ''] = line.toString().trim().split(' ')
    this.#secrets.set(label, Buffer.from(secret, 'hex'))
  }

  keys(label: string): Tls13Keys | undefined {
    const secret = this.#secrets.get(label)
    return secret === undefined ? undefined : new Tls13Keys(secret)
  }
}

const FINISHED = 20
const KEY_UPDATE = 24

/** The records of a server, those of TLS 1.3 opened; what cannot be opened stays as it came. */
export function openServerRecords(records: readonly TlsRecord[], log: KeyLog): TlsRecord[] {
  let keys = log.keys('SERVER_HANDSHAKE_TRAFFIC_SECRET')
  const opened: TlsRecord[] = []
  for (const record of records) {
    const inner = record.type === CONTENT.applicationData ? keys?.open(record.body) : undefined
    opened.push(inner ?? record)
    if (inner?.type !== CONTENT.handshake) continue
    for (const type of handshakeTypes(inner.body)) {
      if (type === FINISHED) keys = log.keys('SERVER_TRAFFIC_SECRET_0')
      if (type === KEY_UPDATE) keys = keys?.next()
    }
  }
  return opened
}

/** Types of the handshake messages that begin in a record; a message that goes on in the next one must not hide another. */
export function handshakeTypes(body: Buffer): number[] {
  const types: number[] = []
  for (let at = 0; at + 4 <= body.length; at += 4 + body.readUIntBE(at + 1, 3)) types.push(body[at] ?? 0)
  return types
}
