import {
  create,
  type DescField,
  type DescMessage,
  type FileRegistry,
  fromJson,
  type JsonValue,
  type Message,
  ScalarType,
  toBinary,
} from '@bufbuild/protobuf'
import { type ReflectList, type ReflectMap, type ReflectMessage, reflect } from '@bufbuild/protobuf/reflect'
import { AnySchema } from '@bufbuild/protobuf/wkt'

export interface ProtoJsonOptions {
  /** Finds messages and the types in an `Any`. */
  readonly registry: FileRegistry
  /** Takes every mistake; reading goes on without the field. */
  readonly refuse: (path: string, message: string) => void
  /** Sees each message when it is whole, before what holds it; may change it. */
  readonly visit?: (message: Message, path: string) => void
}

type JsonMap = { readonly [key: string]: JsonValue }

/** Messages that have a JSON form of their own (ProtoJSON): protobuf-es reads them. */
const OWN_FORM: ReadonlySet<string> = new Set(
  [
    ...['Duration', 'Timestamp', 'FieldMask', 'Struct', 'Value', 'ListValue', 'Empty'],
    ...['Double', 'Float', 'Int64', 'UInt64', 'Int32', 'UInt32', 'Bool', 'String', 'Bytes'].map(
      (of) => `${of}Value`,
    ),
  ].map((name) => `google.protobuf.${name}`),
)

/**
 * Reads ProtoJSON into a message, with the path of each mistake in the proto's own field names, all of them at once: protobuf-es stops
 * at the first and tells only the message it is in. Field names may be `snake_case` or `camelCase`, as everywhere.
 */
export function readProtoJson(
  desc: DescMessage,
  json: JsonValue,
  path: string,
  options: ProtoJsonOptions,
): Message {
  return new Reader(options).message(desc, json, path).message
}

class Reader {
  readonly #options: ProtoJsonOptions

  constructor(options: ProtoJsonOptions) {
    this.#options = options
  }

  message(desc: DescMessage, json: JsonValue, path: string): ReflectMessage {
    if (desc.typeName === AnySchema.typeName) return reflect(desc, this.#any(json, path))
    if (OWN_FORM.has(desc.typeName)) return reflect(desc, this.#wellKnown(desc, json, path))
    const message = reflect(desc)
    if (isMap(json)) this.#fields(message, json, path)
    else this.#options.refuse(path, `expected an object, found ${nameOf(json)}`)
    this.#options.visit?.(message.message, path)
    return message
  }

  #fields(message: ReflectMessage, json: JsonMap, path: string): void {
    const prefix = path === '' ? '' : `${path}.`
    const taken = new Set<string>()
    for (const [key, value] of Object.entries(json)) {
      const field = message.fields.find(({ name, jsonName }) => name === key || jsonName === key)
      if (field === undefined) {
        this.#options.refuse(prefix + key, `${message.desc.name} has no such field`)
        continue
      }
      const at = prefix + field.name
      // Envoy takes either too, and refuses both.
      const rival = field.oneof?.name ?? field.name
      if (taken.has(rival)) this.#options.refuse(at, `set twice, or together with another of ${rival}`)
      taken.add(rival)
      // ProtoJSON: null is as good as absent.
      if (value !== null) this.#set(message, field, value, at)
    }
  }

  #set(message: ReflectMessage, field: DescField, json: JsonValue, path: string): void {
    switch (field.fieldKind) {
      case 'list':
        this.#list(message.get(field) as ReflectList, field, json, path)
        break
      case 'map':
        this.#map(message.get(field) as ReflectMap, field, json, path)
        break
      case 'message':
        message.set(field, this.message(field.message, json, path))
        break
      default: {
        const value = this.#leaf(field, json, path)
        if (value !== undefined) message.set(field, value as never)
      }
    }
  }

  #list(list: ReflectList, field: DescField & { fieldKind: 'list' }, json: JsonValue, path: string): void {
    if (!Array.isArray(json)) {
      this.#options.refuse(path, `expected a list, found ${nameOf(json)}`)
      return
    }
    for (const [index, item] of json.entries()) {
      const at = `${path}[${index}]`
      const value =
        field.message === undefined ? this.#leaf(field, item, at) : this.message(field.message, item, at)
      if (value !== undefined) list.add(value as never)
    }
  }

  #map(map: ReflectMap, field: DescField & { fieldKind: 'map' }, json: JsonValue, path: string): void {
    if (!isMap(json)) {
      this.#options.refuse(path, `expected an object, found ${nameOf(json)}`)
      return
    }
    for (const [key, item] of Object.entries(json)) {
      const at = `${path}["${key}"]`
      const value =
        field.message === undefined ? this.#leaf(field, item, at) : this.message(field.message, item, at)
      if (value !== undefined) map.set(key as never, value as never)
    }
  }

  /** A scalar or an enum; undefined after a refusal. */
  #leaf(field: DescField, json: JsonValue, path: string): unknown {
    if (field.enum !== undefined) {
      const found = field.enum.values.find(({ name, number }) => name === json || number === json)
      if (found !== undefined) return found.number
      const names = field.enum.values.map(({ name }) => name)
      this.#options.refuse(path, `expected one of ${names.join(', ')}, found ${nameOf(json)}`)
      return undefined
    }
    const expected = SCALARS[field.scalar as ScalarType]
    const value = expected?.read(json)
    if (value === undefined) this.#options.refuse(path, `expected ${expected?.name}, found ${nameOf(json)}`)
    return value
  }

  #wellKnown(desc: DescMessage, json: JsonValue, path: string): Message {
    try {
      return fromJson(desc, json)
    } catch {
      this.#options.refuse(path, `expected a ${desc.name}, found ${nameOf(json)}`)
      return create(desc)
    }
  }

  #any(json: JsonValue, path: string): Message {
    const typeUrl = isMap(json) ? json['@type'] : undefined
    if (!isMap(json) || typeof typeUrl !== 'string') {
      this.#options.refuse(path, 'expected an object with "@type"')
      return create(AnySchema)
    }
    const { '@type': _, ...rest } = json
    const typeName = typeUrl.slice(typeUrl.lastIndexOf('/') + 1)
    const desc = this.#options.registry.getMessage(typeName)
    if (desc === undefined) {
      this.#options.refuse(path, `${typeName} is not supported`)
      return create(AnySchema)
    }
    const inner = OWN_FORM.has(typeName) ? (rest['value'] ?? null) : rest
    const { message } = this.message(desc, inner as JsonValue, path)
    return create(AnySchema, { typeUrl: `type.googleapis.com/${typeName}`, value: toBinary(desc, message) })
  }
}

interface Scalar {
  readonly name: string
  /** Undefined when it is none. */
  readonly read: (json: JsonValue) => unknown
}

const integer = (name: string, from: number, to: number): Scalar => ({
  name,
  read: (json) => {
    const value = typeof json === 'string' && /^-?\d+$/.test(json) ? Number(json) : json
    return Number.isInteger(value) && (value as number) >= from && (value as number) <= to ? value : undefined
  },
})
const long = (name: string, signed: boolean): Scalar => ({
  name,
  read: (json) => {
    const text = typeof json === 'number' && Number.isInteger(json) ? String(json) : json
    if (typeof text !== 'string' || !/^-?\d{1,20}$/.test(text)) return undefined
    const value = BigInt(text)
    return (signed ? BigInt.asIntN(64, value) : BigInt.asUintN(64, value)) === value ? value : undefined
  },
})
const INT32 = integer('a 32-bit integer', -(2 ** 31), 2 ** 31 - 1)
const UINT32 = integer('a 32-bit integer that is not negative', 0, 2 ** 32 - 1)
const INT64 = long('a 64-bit integer', true)
const UINT64 = long('a 64-bit integer that is not negative', false)
const NUMBER: Scalar = {
  name: 'a number',
  read: (json) => (typeof json === 'number' && Number.isFinite(json) ? json : undefined),
}

const SCALARS: Readonly<Record<ScalarType, Scalar>> = {
  [ScalarType.DOUBLE]: NUMBER,
  [ScalarType.FLOAT]: NUMBER,
  [ScalarType.INT64]: INT64,
  [ScalarType.UINT64]: UINT64,
  [ScalarType.INT32]: INT32,
  [ScalarType.FIXED64]: UINT64,
  [ScalarType.FIXED32]: UINT32,
  [ScalarType.BOOL]: {
    name: 'true or false',
    read: (json) => (typeof json === 'boolean' ? json : undefined),
  },
  [ScalarType.STRING]: { name: 'a string', read: (json) => (typeof json === 'string' ? json : undefined) },
  [ScalarType.BYTES]: {
    name: 'bytes in base64',
    read: (json) =>
      typeof json === 'string' && /^[A-Za-z0-9+/_-]*={0,2}$/.test(json)
        ? new Uint8Array(Buffer.from(json, 'base64'))
        : undefined,
  },
  [ScalarType.UINT32]: UINT32,
  [ScalarType.SFIXED32]: INT32,
  [ScalarType.SFIXED64]: INT64,
  [ScalarType.SINT32]: INT32,
  [ScalarType.SINT64]: INT64,
}

function isMap(json: JsonValue | undefined): json is JsonMap {
  return typeof json === 'object' && json !== null && !Array.isArray(json)
}

function nameOf(json: JsonValue): string {
  if (Array.isArray(json)) return 'a list'
  if (isMap(json)) return 'an object'
  const text = JSON.stringify(json)
  return text.length > 80 ? `${text.slice(0, 80)}…` : text
}
