// The oracle's bytes: what each connection must carry is known from its number alone, so one byte that is lost, moved, repeated
// or taken from another connection is seen at once.
import { createHash } from 'node:crypto'

/** A prime, so that no power of two of ours (buffers, records, chunks) is a period of it. */
const PERIOD = 65_521
const LONGEST = 262_144
const bytes = Buffer.alloc(PERIOD + LONGEST)
for (let at = 0; at < PERIOD; ) {
  const block = createHash('sha512').update(`isthmus ${at}`).digest()
  at += block.copy(bytes, at)
}
for (let at = PERIOD; at < bytes.length; at += PERIOD) bytes.copy(bytes, at, 0, PERIOD)

const startOf = (connection: number, position: number): number => (connection * 7_919 + position) % PERIOD

/** What `connection` carries at `position`; `length` at most 256 KiB. Not to be written to. */
export function patternAt(connection: number, position: number, length: number): Buffer {
  const start = startOf(connection, position)
  return bytes.subarray(start, start + length)
}

/** How many of these bytes are not what they must be. */
export function wrongBytes(connection: number, position: number, found: Buffer): number {
  let wrong = 0
  for (let at = 0; at < found.length; at += LONGEST) {
    const part = found.subarray(at, at + LONGEST)
    const expected = patternAt(connection, position + at, part.length)
    if (part.equals(expected)) continue
    for (let i = 0; i < part.length; i += 1) if (part[i] !== expected[i]) wrong += 1
  }
  return wrong
}

/** The first bytes of a connection: who calls, in 8 bytes. */
export const HEADER_BYTES = 8

export function header(kind: 'GOOD' | 'EVIL', connection: number): Buffer {
  const buffer = Buffer.alloc(HEADER_BYTES)
  buffer.write(kind)
  buffer.writeUInt32BE(connection, 4)
  return buffer
}
