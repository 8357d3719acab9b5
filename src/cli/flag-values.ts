// What the values of flags look like: each reader takes the text and says in one sentence what is wrong with it.
import { isIP } from 'node:net'
import { availableParallelism } from 'node:os'
import { REVOCATION_MODES, type RevocationMode } from '../identity/revocation.ts'
import { fail, ok, type Result } from '../lib/result.ts'
import { ACCESS_LOG_FORMATS, type AccessLogFormat } from '../proxy/access-log-format.ts'
import { type Authority, parseAuthority } from '../proxy/names/authority.ts'
import { parseBindRange } from '../resources/bind-address.ts'
import type { RuntimeChoice } from './runtime.ts'

/** What the workers share: the one address of `--bind`; what it is if it is none is said by `readBind`. */
export function readSockets(text: string): Result<Authority[], string> {
  const parsed = parseAuthority(text)
  return parsed.ok ? ok([parsed.value]) : ok([])
}

/** A number of processes; `auto` is what the machine, or its cgroup, has room for. */
export function readWorkers(text: string): Result<number, string> {
  if (text === 'auto') return ok(availableParallelism())
  return /^[1-9]\d{0,2}$/.test(text)
    ? ok(Number(text))
    : fail(`${JSON.stringify(text)} is no number of processes: 1 to 999, or auto`)
}

export function readRuntime(text: string): Result<RuntimeChoice, string> {
  return text === 'node' || text === 'bun' || text === 'auto'
    ? ok(text)
    : fail(`there is no runtime "${text}"; there are node, bun and auto`)
}

export function readBind(text: string): Result<string, string> {
  const parsed = parseAuthority(text)
  return parsed.ok ? ok(text) : parsed
}

export function readRange(text: string): Result<string, string> {
  const parsed = parseBindRange(text)
  return parsed.ok ? ok(text) : parsed
}

export function readLevel(text: string): Result<string, string> {
  const levels = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent']
  return levels.includes(text)
    ? ok(text)
    : fail(`there is no level "${text}"; there are ${levels.join(', ')}`)
}

export function readRevocation(text: string): Result<RevocationMode, string> {
  const mode = REVOCATION_MODES.find((one) => one === text)
  return mode === undefined ? fail(`expected ${REVOCATION_MODES.join(' or ')}, found "${text}"`) : ok(mode)
}

export function readAccessLog(text: string): Result<AccessLogFormat, string> {
  const format = ACCESS_LOG_FORMATS.find((one) => one === text)
  return format === undefined
    ? fail(`there is no format "${text}"; there are ${ACCESS_LOG_FORMATS.join(', ')}`)
    : ok(format)
}

/** A part of 1. */
export function readShare(text: string): Result<number, string> {
  const share = Number(text)
  return text !== '' && share >= 0 && share <= 1 ? ok(share) : fail(`expected 0 to 1, found "${text}"`)
}

/** Undefined for none. */
export function readCollector(text: string): Result<URL | undefined, string> {
  if (text === '') return ok(undefined)
  const url = URL.parse(text)
  return url !== null && ['http:', 'https:'].includes(url.protocol)
    ? ok(url)
    : fail(`expected a URL such as http://127.0.0.1:4318, found "${text}"`)
}

export function readBoolean(text: string): Result<boolean, string> {
  return text === 'true' || text === 'false'
    ? ok(text === 'true')
    : fail(`expected true or false, found "${text}"`)
}

export function readUpstreams(text: string): Result<Authority[] | undefined, string> {
  if (text === '') return ok(undefined)
  const upstreams: Authority[] = []
  for (const part of text.split(',')) {
    const parsed = parseAuthority(part.trim(), 53)
    if (!parsed.ok) return parsed
    if (isIP(parsed.value.host) === 0)
      return fail(`${parsed.value.host} is a name; a resolver is asked by its IP address`)
    upstreams.push(parsed.value)
  }
  return ok(upstreams)
}

/** `500ms`, `45s`, `2m`, `1h` in milliseconds. */
export function parseDuration(text: string): Result<number, string> {
  const match = /^(\d{1,9})(ms|s|m|h)$/.exec(text)
  if (match === null)
    return fail(`${JSON.stringify(text)} is no duration; write for example 500ms, 45s or 2m`)
  return ok(
    Number(match[1]) * { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 }[match[2] as 'ms' | 's' | 'm' | 'h'],
  )
}
