// The SNI of a service port, Istio's form (istio/istio pilot/pkg/model/service.go BuildDNSSrvSubsetKey and ParseSubsetKey):
// `outbound_.9080_._.productpage.bookinfo.svc.cluster.local`. What arrives here comes from strangers before any
// authentication, so the grammar is strict, canonical (one spelling per service) and read in linear time.
import { createHash } from 'node:crypto'
import { fail, ok, type Result } from '../lib/result.ts'
import { isDnsLabel, isDnsName } from './host.ts'

export interface ServerName {
  /** The service's port, 1 to 65535, not the target port. */
  readonly port: number
  /** Empty: every endpoint of the service. */
  readonly subset: string
  readonly host: string
}

/** A TLS server name fits in 255 bytes; longer ones are refused by Envoy and by Go's TLS. */
const MAX_LENGTH = 255
/** `<subset>_` is one DNS label of 63 characters. */
const MAX_SUBSET = 62

/** What is left of a subset's or host's name in an alias has this much of its SHA-256 beside it, as hexadecimal digits. */
const SUBSET_HASH_LENGTH = 8
const HOST_HASH_LENGTH = 32

/**
 * The inverse of `parseServerName` for every name that fits into one; anything that is no name gives text that it refuses. A name that is
 * too long gets an alias that everybody who forms it forms alike: the host as its hash and as many of its last labels as there is room
 * for, the subset as its beginning and its hash. It parses as a name of that host and subset.
 */
export function formatServerName({ port, subset, host }: ServerName): string {
  const part = isDnsLabel(subset) && subset.length > MAX_SUBSET ? shortSubset(subset) : subset
  const prefix = `outbound_.${port}_.${part}_.`
  const name = prefix + host
  return name.length > MAX_LENGTH && isDnsName(host)
    ? prefix + shortHost(host, MAX_LENGTH - prefix.length)
    : name
}

const hashOf = (text: string, digits: number): string =>
  createHash('sha256').update(text).digest('hex').slice(0, digits)

function shortSubset(subset: string): string {
  const hash = hashOf(subset, SUBSET_HASH_LENGTH)
  return `${subset.slice(0, MAX_SUBSET - 1 - hash.length)}-${hash}`
}

function shortHost(host: string, room: number): string {
  const hash = hashOf(host, HOST_HASH_LENGTH)
  let tail = host
  while (hash.length + 1 + tail.length > room && tail !== '') {
    const dot = tail.indexOf('.')
    tail = dot < 0 ? '' : tail.slice(dot + 1)
  }
  return tail === '' ? hash : `${hash}.${tail}`
}

/** Accepts only what `formatServerName` writes; the error says what is wrong, without echoing more than the limit allows. */
export function parseServerName(text: string): Result<ServerName, string> {
  if (text.length > MAX_LENGTH) return fail(`is ${text.length} characters long, the limit is ${MAX_LENGTH}`)
  const parts = text.split('_.')
  const [direction, portText, subset, host] = parts
  if (parts.length !== 4 || portText === undefined || subset === undefined || host === undefined) {
    return fail(`has ${parts.length} parts between "_.", expected outbound_.<port>_.<subset>_.<host>`)
  }
  if (direction !== 'outbound') return fail(`begins with "${direction}", expected "outbound"`)
  const port = parsePort(portText)
  if (port === undefined) return fail(`has port "${portText}", expected 1 to 65535 without leading zeros`)
  if (subset !== '' && (subset.length > MAX_SUBSET || !isDnsLabel(subset))) {
    return fail(
      `has subset "${subset}", expected a lower-case DNS label of at most ${MAX_SUBSET} characters or nothing`,
    )
  }
  if (!isDnsName(host)) {
    return fail(
      `has host "${host}", expected lower-case DNS labels of at most 63 characters and no trailing dot`,
    )
  }
  return ok({ port, subset, host })
}

/** Canonical decimal only: `Number` alone would also read `+1`, `1e3`, ` 1`, `0x1` and `01`. */
function parsePort(text: string): number | undefined {
  const port = Number(text)
  return Number.isInteger(port) && port >= 1 && port <= 65_535 && String(port) === text ? port : undefined
}
