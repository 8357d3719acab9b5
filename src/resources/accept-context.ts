import { type DescMessage, fromBinary, type Message, type MessageShape } from '@bufbuild/protobuf'
import { type Any, anyUnpack, type Duration } from '@bufbuild/protobuf/wkt'
import { fail, ok, type Problem, problem, type Result } from '../lib/result.ts'
import type { Address as AddressMessage } from '../xds/gen/envoy/config/core/v3/address_pb.js'
import type { XdsResource } from '../xds/types.ts'
import { type Allowed, unsupportedFields } from './accept-fields.ts'
import type { Address } from './accept-types.ts'
import { type Known, KnownMessages } from './known-messages.ts'

/** What stands in an `Any`, by its type and by the list that it was checked against. */
const parts = new WeakMap<DescMessage, WeakMap<object, KnownMessages<DescMessage>>>()

function entry<K extends object, V>(map: WeakMap<K, V>, key: K, make: () => V): V {
  let known = map.get(key)
  if (known === undefined) {
    known = make()
    map.set(key, known)
  }
  return known
}

/** More than these of one resource would help nobody. */
const MOST_PROBLEMS = 64

/**
 * Collects what is wrong while one resource is read. Readers go on with a fallback value after a refusal, so that they stay
 * straight lines; `finish` gives the first problem instead of the value, and with it the others.
 */
export class AcceptContext {
  readonly object: string
  readonly #problems: Problem[] = []

  constructor(object: string) {
    this.object = object
  }

  refuse(field: string, message: string): void {
    if (this.#problems.length < MOST_PROBLEMS) this.#problems.push(problem(this.object, field, message))
  }

  get refused(): boolean {
    return this.#problems.length > 0
  }

  finish<T>(value: T): Result<T, Problem> {
    const [first, ...also] = this.#problems
    if (first === undefined) return ok(value)
    return fail(also.length === 0 ? first : { ...first, also })
  }

  /** Refuses every set field of `message` that `allowed` does not name. */
  only(schema: DescMessage, message: Message, allowed: Allowed, path: string): void {
    for (const found of unsupportedFields(schema, message, allowed, path)) this.refuse(found, 'not supported')
  }

  /** The message inside an `Any`, checked against `allowed`; undefined after a refusal. */
  unpack<Desc extends DescMessage>(
    any: Any,
    schema: Desc,
    allowed: Allowed,
    path: string,
  ): MessageShape<Desc> | undefined {
    const known = attempt(() => this.#known(any, schema, allowed))
    if (known === undefined) {
      this.refuse(
        path,
        `expected ${schema.typeName}, found ${typeOf(any) || 'nothing'} that does not decode as such`,
      )
      return undefined
    }
    for (const found of known.unsupported) this.refuse(`${path}.${found}`, 'not supported')
    return known.message
  }

  #known<Desc extends DescMessage>(any: Any, schema: Desc, allowed: Allowed): Known<MessageShape<Desc>> {
    const read = () => {
      const message = anyUnpack(any, schema)
      if (message === undefined) throw new Error(`is no ${schema.typeName}`)
      return { message, unsupported: unsupportedFields(schema, message, allowed, '') }
    }
    if (allowed === true || typeOf(any) !== schema.typeName) return read()
    const byList = entry(parts, schema, () => new WeakMap<object, KnownMessages<DescMessage>>())
    const messages = entry(byList, allowed, () => new KnownMessages<DescMessage>())
    const { buffer, byteOffset, byteLength } = any.value
    const key = Buffer.from(buffer, byteOffset, byteLength).toString('latin1')
    return (messages as KnownMessages<Desc>).get(key, read)
  }

  /** Milliseconds; `fallback` where unset. Negative durations are refused, as Envoy does. */
  durationMs(duration: Duration | undefined, fallback: number, path: string): number {
    if (duration === undefined) return fallback
    const ms = Number(duration.seconds) * 1000 + Math.trunc(duration.nanos / 1_000_000)
    if (ms < 0) this.refuse(path, `expected a duration that is not negative, found ${ms} ms`)
    return ms
  }

  /** A TCP socket address. Port 0 only where `ephemeral` allows it. */
  address(message: AddressMessage | undefined, path: string, ephemeral = false): Address {
    const socket = message?.address.case === 'socketAddress' ? message.address.value : undefined
    if (socket === undefined) {
      this.refuse(path, 'expected a socket_address')
      return { host: '', port: 0 }
    }
    if (socket.address === '') this.refuse(`${path}.socket_address.address`, 'expected an IP address')
    const port = socket.portSpecifier.case === 'portValue' ? socket.portSpecifier.value : -1
    if (port < (ephemeral ? 0 : 1) || port > 65_535) {
      this.refuse(
        `${path}.socket_address.port_value`,
        `expected a port number, found ${port < 0 ? 'none' : port}`,
      )
    }
    return { host: socket.address, port }
  }
}

/** The allow-list of a `core.v3.Address` that is a TCP socket address. */
export const SOCKET_ADDRESS: Allowed = { socket_address: { address: true, port_value: true } }

/** The allow-list of a `ConfigSource` that is ADS. */
export const ADS: Allowed = { ads: true, resource_api_version: true, initial_fetch_timeout: true }

/** The type name in an `Any`, without its `type.googleapis.com/`. */
export function typeOf(any: Any): string {
  return any.typeUrl.slice(any.typeUrl.lastIndexOf('/') + 1)
}

/** Decodes a resource and begins its context; the object is called `Listener eastwest`. */
export function begin<Desc extends DescMessage>(
  resource: XdsResource,
  schema: Desc,
  allowed: Allowed,
): Result<{ ctx: AcceptContext; message: MessageShape<Desc> }, Problem> {
  const ctx = new AcceptContext(`${schema.name} ${resource.name}`)
  const message = attempt(() => fromBinary(schema, resource.body))
  if (message === undefined) return fail(problem(ctx.object, '', `does not decode as ${schema.typeName}`))
  ctx.only(schema, message, allowed, '')
  return ok({ ctx, message })
}

/** protobuf-es throws on malformed bytes; here these are an expected outcome. */
function attempt<T>(decode: () => T): T | undefined {
  try {
    return decode()
  } catch {
    return undefined
  }
}
