/** What the name of an upstream says of its service. */
export interface NamedService {
  readonly host: string
  readonly port: number
  readonly subset: string
}

const UNNAMED: NamedService = { host: '', port: 0, subset: '' }

/**
 * Reads Istio's two spellings, `outbound|9080|v1|host` and `outbound_.9080_.v1_.host`, for the access log. Lenient: whatever else
 * an upstream may be called, routing goes by the whole name and does not care.
 */
export function parseUpstreamName(name: string): NamedService {
  const known = parsed.get(name)
  if (known !== undefined) return known
  // Clients may ask for any name: they fill a small memory, and empty it.
  if (parsed.size >= REMEMBERED) parsed.clear()
  const service = parse(name)
  parsed.set(name, service)
  return service
}

const REMEMBERED = 4_096
const parsed = new Map<string, NamedService>()

function parse(name: string): NamedService {
  const separator = name.startsWith('outbound|') ? '|' : name.startsWith('outbound_.') ? '_.' : undefined
  if (separator === undefined) return UNNAMED
  const [, number = '', subset = '', ...host] = name.split(separator)
  // A client may ask for port 1e999 too.
  const port = /^\d{1,5}$/.test(number) ? Number(number) : 0
  if (separator === '|') return { host: host.join('|'), port, subset }
  // `outbound_.9080_._.host`: between `_.` and `_.` there is nothing, so an empty subset leaves one `_.` of its own.
  return { host: host.join('_.'), port, subset }
}
