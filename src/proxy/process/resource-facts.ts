import { isIP } from 'node:net'
import { fail, ok, type Problem, problem, type Result } from '../../lib/result.ts'
import { acceptEndpoints } from '../../resources/accept-endpoints.ts'
import { acceptListener } from '../../resources/accept-listener.ts'
import {
  listenerSecrets,
  NO_REFERENCES,
  type References,
  upstreamReferences,
} from '../../resources/accept-references.ts'
import { acceptSecret } from '../../resources/accept-secret.ts'
import type { EndpointsConfig, UpstreamConfig } from '../../resources/accept-types.ts'
import { acceptUpstream } from '../../resources/accept-upstream.ts'
import { decodeNameTable } from '../../resources/name-table.ts'
import { shortType, TYPE, type XdsResource } from '../../xds/types.ts'

/** What the supervisor keeps of a resource that it has accepted: each is read once. */
export interface Facts {
  readonly references: References
  /** Of a Cluster: other names that lead to it. */
  readonly aliases: readonly string[]
  /** Of a Listener: the upstreams that it names. */
  readonly upstreams: readonly string[]
  /** Of a Listener: it leads where the server name says. */
  readonly bySni: boolean
  /** Of a Cluster and of its endpoints: nothing is to be done for it before the first connection. */
  readonly rests: boolean
  /** Of endpoints: how many discovery would have called, and how many not. */
  readonly healthy: number
  readonly unhealthy: number
}

const NOTHING: Facts = {
  references: NO_REFERENCES,
  aliases: [],
  upstreams: [],
  bySni: false,
  rests: false,
  healthy: 0,
  unhealthy: 0,
}

/** Checks a resource as the engine does. `forbidden`: what stands at an address that no endpoint may name; undefined where it may be called. */
export function factsOf(
  typeUrl: string,
  resource: XdsResource,
  forbidden: (host: string) => string | undefined,
): Result<Facts, Problem> {
  switch (typeUrl) {
    case TYPE.listener: {
      const config = acceptListener(resource)
      if (!config.ok) return config
      const { chains } = config.value
      return ok({
        ...NOTHING,
        references: { endpoints: [], secrets: listenerSecrets(config.value) },
        upstreams: chains.filter(({ sniCluster }) => !sniCluster).map(({ upstream }) => upstream),
        bySni: chains.some(({ sniCluster }) => sniCluster),
      })
    }
    case TYPE.cluster: {
      const config = acceptUpstream(resource)
      return config.ok ? ok(ofUpstream(config.value)) : config
    }
    case TYPE.endpoints: {
      const config = acceptEndpoints(resource)
      return config.ok ? ok(ofEndpoints(config.value, forbidden)) : config
    }
    case TYPE.secret: {
      const secret = acceptSecret(resource)
      if (!secret.ok) return secret
      // Private keys come from our own files and go nowhere: not over the network, not into the snapshot.
      return secret.value.kind === 'credential'
        ? fail(
            problem(
              `Secret ${resource.name}`,
              'tls_certificate',
              'a private key is not taken from discovery',
            ),
          )
        : ok(NOTHING)
    }
    case TYPE.nameTable:
      return checkNameTable(resource)
    default:
      return fail(problem(resource.name, '', `resources of type ${typeUrl} are not for a proxy`))
  }
}

/** Health checks go on whether or not anybody calls; names are resolved before somebody does. */
function ofUpstream(config: UpstreamConfig): Facts {
  return {
    ...NOTHING,
    references: shared(upstreamReferences(config)),
    aliases: config.aliases,
    rests: config.type === 'EDS' && config.healthCheck === undefined,
  }
}

function ofEndpoints(config: EndpointsConfig, forbidden: (host: string) => string | undefined): Facts {
  let [rests, healthy, unhealthy] = [config.staleAfterMs === undefined, 0, 0]
  const seen = new Set<string>()
  for (const { endpoints } of config.localities)
    for (const { address, healthStatus } of endpoints) {
      const at = `${address.host} ${address.port}`
      // As in the engine, the first of two with one address counts.
      if (seen.has(at)) continue
      seen.add(at)
      // One that is left out is said to be, at once.
      if (isIP(address.host) === 0 || forbidden(address.host) !== undefined) rests = false
      if (healthStatus === 'UNHEALTHY' || healthStatus === 'DRAINING' || healthStatus === 'TIMEOUT')
        unhealthy++
      else healthy++
    }
  return { ...NOTHING, rests, healthy, unhealthy }
}

/** Thousands of Clusters refer to the same few secrets. */
const lists = new Map<string, readonly string[]>()
const MAX_LISTS = 1_024

function shared({ endpoints, secrets }: References): References {
  const key = secrets.join('\n')
  const known = lists.get(key)
  if (known === undefined && lists.size < MAX_LISTS) lists.set(key, secrets)
  return { endpoints, secrets: known ?? secrets }
}

function checkNameTable(resource: XdsResource): Result<Facts, Problem> {
  try {
    decodeNameTable(resource.body)
    return ok(NOTHING)
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error)
    return fail(problem(`${shortType(TYPE.nameTable)} ${resource.name}`, '', why))
  }
}
