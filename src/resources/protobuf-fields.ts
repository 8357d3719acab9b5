// Reading and writing the few small Istio messages that no package ships generated code for.
import { BinaryReader, type BinaryWriter, WireType } from '@bufbuild/protobuf/wire'

/** Calls `on` with each field in turn; what it does not read (returns false) is skipped, as protobuf demands of unknown fields. */
export function readFields(
  bytes: Uint8Array,
  on: (no: number, reader: BinaryReader, wireType: WireType) => boolean,
): void {
  const reader = new BinaryReader(bytes)
  while (reader.pos < reader.len) {
    const [no, wireType] = reader.tag()
    if (!on(no, reader, wireType)) reader.skip(wireType, no)
  }
}

/** Proto3: the empty string is not written. */
export function writeString(writer: BinaryWriter, no: number, value: string): void {
  if (value !== '') writer.tag(no, WireType.LengthDelimited).string(value)
}

export function writeStrings(writer: BinaryWriter, no: number, values: readonly string[]): void {
  for (const value of values) writer.tag(no, WireType.LengthDelimited).string(value)
}

export function writeUint32(writer: BinaryWriter, no: number, value: number): void {
  if (value !== 0) writer.tag(no, WireType.Varint).uint32(value)
}

export function writeMessage(writer: BinaryWriter, no: number, write: (writer: BinaryWriter) => void): void {
  writer.tag(no, WireType.LengthDelimited).fork()
  write(writer)
  writer.join()
}

/** A `map<string, V>` with its keys sorted, so that equal maps give equal bytes. */
export function writeMap<V>(
  writer: BinaryWriter,
  no: number,
  map: Readonly<Record<string, V>>,
  writeValue: (writer: BinaryWriter, no: number, value: V) => void,
): void {
  for (const key of Object.keys(map).sort()) {
    const value = map[key]
    if (value === undefined) continue
    writeMessage(writer, no, (entry) => {
      writeString(entry, 1, key)
      writeValue(entry, 2, value)
    })
  }
}

/** One entry of a `map<string, string>` or `map<string, uint32>`. */
export function readEntry<V>(
  bytes: Uint8Array,
  absent: V,
  readValue: (reader: BinaryReader) => V,
): [string, V] {
  let key = ''
  let value = absent
  readFields(bytes, (no, reader) => {
    if (no === 1) key = reader.string()
    else if (no === 2) value = readValue(reader)
    else return false
    return true
  })
  return [key, value]
}

/** Reads one entry of a map into `record`. `__proto__` as a key would not arrive as a member, so it is dropped knowingly. */
export function readMap<V>(
  record: Record<string, V>,
  reader: BinaryReader,
  absent: V,
  readValue: (reader: BinaryReader) => V,
): void {
  const [key, value] = readEntry(reader.bytes(), absent, readValue)
  if (key !== '__proto__') record[key] = value
}

export const readText = (reader: BinaryReader): string => reader.string()
