// Access log entries as OpenTelemetry spans in OTLP's JSON (opentelemetry-proto trace/v1, encoded as ProtoJSON: 64-bit numbers are
// strings, ids hexadecimal). Attributes have the names of OpenTelemetry's semantic conventions where there is one.
import { randomBytes } from 'node:crypto'
import { VERSION } from '../lib/version.ts'
import type { AccessLogEntry } from './access-log.ts'

export interface SpanResource {
  /** `gateway`, `sidecar`: `service.name` is `isthmus-gateway`. */
  readonly name: string
  readonly cluster: string
}

interface Attribute {
  readonly key: string
  readonly value: { readonly stringValue: string } | { readonly intValue: string }
}

/** Not interpreted by anyone on the way, but a collector has limits, and a name may be long. */
const LONGEST_TEXT = 1_024
const KIND_SERVER = 2
const STATUS_ERROR = 2

/** The body of one `POST /v1/traces`. */
export function exportRequest(entries: readonly AccessLogEntry[], { name, cluster }: SpanResource): string {
  const attributes = [
    text('service.name', `isthmus-${name}`),
    text('service.version', VERSION),
    text('process.pid', String(process.pid)),
    ...(cluster === '' ? [] : [text('k8s.cluster.name', cluster)]),
  ]
  const scope = { name: 'isthmus', version: VERSION }
  return JSON.stringify({
    resourceSpans: [{ resource: { attributes }, scopeSpans: [{ scope, spans: entries.map(spanOf) }] }],
  })
}

/** One span: the connection from accept to its end. */
function spanOf(entry: AccessLogEntry): object {
  const ids = randomBytes(24).toString('hex')
  const startMs = Date.parse(entry.time)
  return {
    traceId: ids.slice(0, 32),
    spanId: ids.slice(32),
    name: 'connection',
    kind: KIND_SERVER,
    startTimeUnixNano: nanoseconds(startMs),
    endTimeUnixNano: nanoseconds(startMs + entry.durationMs),
    attributes: attributesOf(entry),
    status: entry.flag === '-' ? {} : { code: STATUS_ERROR, message: cut(`${entry.flag}: ${entry.reason}`) },
  }
}

/** Names of the conventions; every other field of an entry is `isthmus.<field>`. */
const CONVENTIONAL: Readonly<Partial<Record<keyof AccessLogEntry, string>>> = {
  host: 'server.address',
  port: 'server.port',
  sni: 'tls.client.server_name',
  tlsVersion: 'tls.protocol.version',
  alpn: 'tls.next_protocol',
  remoteAddress: 'client.address',
  endpoint: 'network.peer.address',
}
/** In the span itself already. */
const LEFT_OUT: ReadonlySet<string> = new Set<keyof AccessLogEntry>(['time', 'durationMs'])

function attributesOf(entry: AccessLogEntry): Attribute[] {
  const attributes: Attribute[] = []
  for (const field in entry) {
    const value = entry[field as keyof AccessLogEntry]
    if (LEFT_OUT.has(field) || value === '' || value === -1) continue
    const key = CONVENTIONAL[field as keyof AccessLogEntry] ?? `isthmus.${snake(field)}`
    attributes.push(
      typeof value === 'string' ? text(key, value) : { key, value: { intValue: String(value) } },
    )
  }
  return attributes
}

const snake = (name: string): string => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)

function text(key: string, value: string): Attribute {
  return { key, value: { stringValue: cut(value) } }
}

function cut(value: string): string {
  return value.length > LONGEST_TEXT ? `${value.slice(0, LONGEST_TEXT)}...` : value
}

function nanoseconds(ms: number): string {
  return `${ms}000000`
}
