// The SNI of a service port, Istio's form (istio/istio pilot/pkg/model/service.go BuildDNSSrvSubsetKey and ParseSubsetKey):
// `outbound_.9080_._.productpage.bookinfo.svc.cluster.local`. What arrives here comes from strangers before any
// authentication, so the grammar is strict, canonical (one spelling per service) and read in linear time.
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

/** The inverse of `parseServerName` for every name that grammar allows; anything else gives text that it refuses. */
export function formatServerName({ port, subset, host }: ServerName): string {
  return `outbound_.${port}_.${subset}_.${host}`
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
