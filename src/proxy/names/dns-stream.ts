/** A message as TCP carries it: two bytes of length first (RFC 1035 section 4.2.2), in one write (RFC 7766 section 8). */
export function frame(message: Buffer): Buffer {
  const framed = Buffer.allocUnsafe(2 + message.length)
  framed.writeUInt16BE(message.length, 0)
  message.copy(framed, 2)
  return framed
}

/** Cuts a TCP stream back into messages, however its bytes arrive. */
export class FrameReader {
  #rest: Buffer = Buffer.alloc(0)

  /** The messages that `chunk` completes. Holds at most one unfinished message (64 KB) besides. */
  push(chunk: Buffer): Buffer[] {
    let bytes = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk])
    const messages: Buffer[] = []
    while (bytes.length >= 2) {
      const end = 2 + bytes.readUInt16BE(0)
      if (bytes.length < end) break
      messages.push(bytes.subarray(2, end))
      bytes = bytes.subarray(end)
    }
    this.#rest = bytes
    return messages
  }
}
