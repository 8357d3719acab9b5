// `/config_dump` as Envoy has it: envoy.admin.v3.ConfigDump in protobuf's JSON, with the proto's field names.
import type { AdminReply } from '../../admin/http.ts'
import { formatProblem } from '../../lib/result.ts'
import { type DumpedResource, dumpType } from '../../proxy/process/config-dump.ts'
import type { SupervisorView } from '../../proxy/process/supervisor-view.ts'
import { TYPE } from '../../xds/types.ts'

type Json = Readonly<Record<string, unknown>>

const ADMIN = 'type.googleapis.com/envoy.admin.v3.'

/** The fields of the dumps that are lists of resources, with the type of their members: what `?resource=` may name. */
const MEMBERS: Readonly<Record<string, string>> = {
  static_clusters: 'ClustersConfigDump.StaticCluster',
  dynamic_active_clusters: 'ClustersConfigDump.DynamicCluster',
  static_listeners: 'ListenersConfigDump.StaticListener',
  dynamic_listeners: 'ListenersConfigDump.DynamicListener',
  static_secrets: 'SecretsConfigDump.StaticSecret',
  dynamic_active_secrets: 'SecretsConfigDump.DynamicSecret',
  static_endpoint_configs: 'EndpointsConfigDump.StaticEndpointConfig',
  dynamic_endpoint_configs: 'EndpointsConfigDump.DynamicEndpointConfig',
}

/**
 * What is in force. `resource` picks one list, `name_regex` names in it, `include_eds` adds endpoints; `mask` is refused. Private
 * keys never stand in it.
 */
export function configDump(supervisor: SupervisorView, query: URLSearchParams): AdminReply {
  const unknown = [...query.keys()].find((key) => !['resource', 'name_regex', 'include_eds'].includes(key))
  if (unknown !== undefined) return bad(`${unknown}: not supported`)
  const names = readRegex(query.get('name_regex'))
  if (names === undefined) return bad('name_regex: not a regular expression')
  const resource = query.get('resource')
  const wantsEndpoints = query.has('include_eds') || resource?.includes('endpoint') === true
  const configs = dumps(supervisor, wantsEndpoints, (name) => names.test(name))
  if (resource === null) return { body: { configs } }
  const type = MEMBERS[resource]
  if (type === undefined) return bad(`resource: there is ${Object.keys(MEMBERS).join(', ')}`)
  const members = configs.flatMap((config) => (config[resource] as Json[] | undefined) ?? [])
  return { body: { configs: members.map((member) => ({ '@type': ADMIN + type, ...member })) } }
}

function dumps(supervisor: SupervisorView, endpoints: boolean, named: (name: string) => boolean): Json[] {
  const snapshot = supervisor.resources()
  const refused = supervisor.refused()
  const of = (typeUrl: string) => dumpType(snapshot, typeUrl).filter(({ name }) => named(name))
  const errorState = (typeUrl: string, name: string): Json => {
    const problem = refused.get(`${typeUrl} ${name}`)
    return problem === undefined ? {} : { error_state: { details: formatProblem(problem) } }
  }
  const split = (typeUrl: string) => {
    const fixed = supervisor.fixed.get(typeUrl)
    return Object.groupBy(of(typeUrl), ({ name }) => (fixed?.has(name) === true ? 'fixed' : 'dynamic'))
  }
  const [clusters, listeners, secrets] = [split(TYPE.cluster), split(TYPE.listener), split(TYPE.secret)]
  const all: Json[] = [
    { '@type': `${ADMIN}BootstrapConfigDump`, bootstrap: { node: nodeOf(supervisor) } },
    section('ClustersConfigDump', {
      static_clusters: clusters.fixed?.map(({ resource }) => ({ cluster: resource })),
      dynamic_active_clusters: clusters.dynamic?.map(({ name, version, resource }) => ({
        version_info: version,
        cluster: resource,
        ...errorState(TYPE.cluster, name),
      })),
    }),
    section('ListenersConfigDump', {
      static_listeners: listeners.fixed?.map(({ resource }) => ({ listener: resource })),
      dynamic_listeners: listeners.dynamic?.map(({ name, version, resource }) => ({
        name,
        active_state: { version_info: version, listener: resource },
        ...errorState(TYPE.listener, name),
      })),
    }),
    section('SecretsConfigDump', {
      static_secrets: secrets.fixed?.map(({ name, resource }) => ({ name, secret: resource })),
      dynamic_active_secrets: secrets.dynamic?.map(({ name, version, resource }) => ({
        name,
        version_info: version,
        secret: resource,
      })),
    }),
  ]
  if (endpoints)
    all.push(
      section('EndpointsConfigDump', { dynamic_endpoint_configs: of(TYPE.endpoints).map(endpointConfig) }),
    )
  return all
}

/** Without the lists that are empty, as protobuf's JSON is. */
function section(type: string, lists: Readonly<Record<string, readonly Json[] | undefined>>): Json {
  const filled = Object.entries(lists).filter(([, list]) => list !== undefined && list.length > 0)
  return { '@type': ADMIN + type, ...Object.fromEntries(filled) }
}

function endpointConfig({ version, resource }: DumpedResource): Json {
  return { version_info: version, endpoint_config: resource }
}

/** `core.v3.Node`. */
export function nodeOf(supervisor: SupervisorView): Json {
  const { id, cluster, metadata, userAgentName } = supervisor.node
  return { id, cluster, metadata, user_agent_name: userAgentName }
}

function readRegex(text: string | null): RegExp | undefined {
  try {
    return new RegExp(`^(?:${text ?? '.*'})$`, 's')
  } catch {
    return undefined
  }
}

function bad(message: string): AdminReply {
  return { status: 400, body: `${message}\n` }
}
