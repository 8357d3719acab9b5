import type { AccessLogEntry } from './access-log.ts'

export type AccessLogFormat = 'json' | 'text' | 'off'

export const ACCESS_LOG_FORMATS: readonly AccessLogFormat[] = ['json', 'text', 'off']

export interface AccessLogLabels {
  /** `gateway`, `sidecar`. */
  readonly name: string
  /** Id of our own cluster. */
  readonly cluster: string
}

/** Longest text of a field in characters as written; more is cut and ends in `...`. Together they keep a line below 4 KiB. */
const LONGEST: Readonly<Record<string, number>> = {
  peerId: 1_024,
  reason: 512,
  upstream: 300,
  host: 256,
  sni: 256,
  rule: 256,
  shadowRule: 128,
  remoteAddress: 64,
  directRemoteAddress: 64,
  endpoint: 64,
  subset: 64,
  alpn: 32,
  tlsVersion: 16,
}
const LONGEST_OTHER = 96

/** Printable ASCII without `"` and `\`: what needs no escape. A server name or an error text may hold anything else. */
const PLAIN = /^[ !#-[\]-~]*$/
const PLAIN_WORD = /^[!#-[\]-~]+$/

/**
 * Writes an entry as one line with its newline; undefined for `off`. Whatever a client sends stays inside its field: all but
 * printable ASCII is escaped as `\uXXXX`, and every field has its longest length.
 */
export function accessLogFormatter(
  format: AccessLogFormat,
  labels: AccessLogLabels,
): ((entry: AccessLogEntry, nowMs: number) => string) | undefined {
  if (format === 'off') return undefined
  return format === 'json' ? jsonFormatter(labels) : textLine
}

/** The shape of the process's other lines: `level`, `time` (of writing), `name`, `cluster`, …, `msg`. */
function jsonFormatter({ name, cluster }: AccessLogLabels) {
  const head = '{"level":"info","time":"'
  const middle = `","name":${JSON.stringify(name)}${cluster === '' ? '' : `,"cluster":${JSON.stringify(cluster)}`}`
  let lastMs = -1
  let lastTime = ''
  // Every entry has the same fields, of the same types.
  let frame: Frame | undefined
  return (entry: AccessLogEntry, nowMs: number): string => {
    if (nowMs !== lastMs) {
      lastMs = nowMs
      lastTime = new Date(nowMs).toISOString()
    }
    frame ??= frameOf(entry)
    let line = head + lastTime + middle
    for (const { key, before, longest } of frame.fields) {
      const value = entry[key]
      line += before
      line += typeof value === 'string' ? escapeText(value, longest) : value
    }
    return line + frame.end
  }
}

/** All of a line that never changes; put together once, it makes half as many pieces of it. */
interface Frame {
  readonly fields: readonly {
    readonly key: keyof AccessLogEntry
    /** The end of the value before it included. */
    readonly before: string
    readonly longest: number
  }[]
  readonly end: string
}

function frameOf(entry: AccessLogEntry): Frame {
  let close = ''
  const fields = (Object.keys(entry) as (keyof AccessLogEntry)[]).map((key) => {
    const open = typeof entry[key] === 'string' ? '"' : ''
    const before = `${close},"${key === 'time' ? 'acceptedAt' : key}":${open}`
    close = open
    return { key, before, longest: LONGEST[key] ?? LONGEST_OTHER }
  })
  return { fields, end: `${close},"msg":"access"}\n` }
}

/** Columns for people, `-` for what there is none of; then every other field as `key=value`. */
function textLine(entry: AccessLogEntry): string {
  const service = entry.host === '' ? entry.upstream : `${entry.host}:${entry.port}`
  const flag = entry.flag === '-' ? 'OK' : entry.flag
  let line = `${entry.time} ${flag} ${word(entry.remoteAddress, 64)} ${word(entry.peerId, 1_024)} -> `
  line += `${word(service, 300)} ${word(entry.endpoint, 64)} ${entry.durationMs}ms ${entry.bytesIn}/${entry.bytesOut}`
  for (const key in entry) {
    if (TEXT_COLUMNS.has(key)) continue
    const value = entry[key as keyof AccessLogEntry]
    if (value === '' || value === -1 || value === 0) continue
    line += ` ${key}=${typeof value === 'string' ? word(value, LONGEST[key] ?? LONGEST_OTHER) : value}`
  }
  return `${line}\n`
}

const TEXT_COLUMNS: ReadonlySet<string> = new Set<keyof AccessLogEntry>([
  'time',
  'flag',
  'remoteAddress',
  'peerId',
  'host',
  'port',
  'upstream',
  'endpoint',
  'durationMs',
  'bytesIn',
  'bytesOut',
])

/** One word, in quotes where it holds anything that would make it look like more. */
function word(text: string, longest: number): string {
  if (text === '') return '-'
  return text.length <= longest && PLAIN_WORD.test(text) ? text : `"${escapeText(text, longest)}"`
}

function escapeText(text: string, longest: number): string {
  if (text.length <= longest && PLAIN.test(text)) return text
  let out = ''
  for (let at = 0; at < text.length; at += 1) {
    const code = text.charCodeAt(at)
    const plain = code >= 0x20 && code <= 0x7e && code !== 0x22 && code !== 0x5c
    const next = plain ? text[at] : `\\u${code.toString(16).padStart(4, '0')}`
    if (out.length + (next?.length ?? 0) > longest - 3) return `${out}...`
    out += next
  }
  return out
}
