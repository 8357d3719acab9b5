import { inspect } from 'node:util'
import { fail, ok, type Problem, problem, type Result } from '../lib/result.ts'
import { Field, Recorder } from './field.ts'
import { readDestinationRule, readServiceEntry } from './istio.ts'
import { readAuthorizationPolicy } from './istio-security.ts'
import { findKind, type KindInfo } from './kinds.ts'
import {
  readDeployment,
  readEndpointSlice,
  readPod,
  readPodStatus,
  readSecret,
  readService,
  readServiceStatus,
} from './kubernetes.ts'
import { readConditions, readMetadata, readRef } from './metadata.ts'
import {
  readCluster,
  readGateway,
  readIngressGateway,
  readOrganizationSetting,
  readWorkspace,
  readWorkspaceSetting,
} from './tetrate.ts'
import type { Kind, KubeObject, ObjectOf, ObjectRef } from './types.ts'

/** How the part that is particular to a kind is read: `spec`, and members that come from its status. */
const READERS: { readonly [K in Kind]: (document: Field) => Pick<ObjectOf[K], 'spec'> } = {
  Namespace: () => ({ spec: {} }),
  Service: (document) => ({ spec: readService(document), ...readServiceStatus(document) }),
  EndpointSlice: (document) => ({ spec: readEndpointSlice(document) }),
  Pod: (document) => ({ spec: readPod(document), ...readPodStatus(document) }),
  Deployment: (document) => ({ spec: readDeployment(document) }),
  Secret: (document) => ({ spec: readSecret(document) }),
  Workspace: (document) => ({ spec: readWorkspace(document) }),
  WorkspaceSetting: (document) => ({ spec: readWorkspaceSetting(document) }),
  OrganizationSetting: (document) => ({ spec: readOrganizationSetting(document) }),
  Cluster: (document) => ({ spec: readCluster(document) }),
  IngressGateway: (document) => ({ spec: readIngressGateway(document) }),
  Gateway: (document) => ({ spec: readGateway(document) }),
  ServiceEntry: (document) => ({ spec: readServiceEntry(document) }),
  DestinationRule: (document) => ({ spec: readDestinationRule(document) }),
  AuthorizationPolicy: (document) => ({ spec: readAuthorizationPolicy(document) }),
}

/**
 * Checks one document and fills in defaults. All mistakes of the document are returned, each with its field path;
 * undefined stands for a kind or group that Isthmus does not read. `source` (`file.yaml#2`) is for messages.
 */
export function parseManifest(doc: unknown, source: string): Result<KubeObject | undefined, Problem[]> {
  const known = recognize(doc, source)
  if (!known.ok) return fail([known.error])
  if (known.value === undefined) return ok(undefined)
  const { info, raw, apiVersion } = known.value
  const found = new Recorder(`${source} ${nameOf(raw)}`, info.kind === 'Secret')
  const document = new Field(raw, '', found)
  const slash = apiVersion.indexOf('/')
  if (!info.versions.includes(apiVersion.slice(slash + 1)))
    document.get('apiVersion').wrong(`expected version ${info.versions.join(' or ')}, found "${apiVersion}"`)

  const metadata = readMetadata(document, readRef(document, info))
  const conditions = readConditions(document)
  const own = READERS[info.kind](document)
  if (found.problems.length > 0) return fail([...found.problems])
  // The reader belongs to the kind: READERS' type says so, entry by entry.
  const object = { apiVersion, kind: info.kind, metadata, ...own, conditions, source, raw } as KubeObject
  return ok(object.kind === 'Secret' ? hideRaw(object) : object)
}

/** Who a document says it is, when that much of it can be read, whatever else is wrong with it. */
export function identify(doc: unknown): ObjectRef | undefined {
  const known = recognize(doc, '')
  if (!known.ok || known.value === undefined) return undefined
  const found = new Recorder('')
  const ref = readRef(new Field(known.value.raw, '', found), known.value.info)
  return found.problems.length === 0 ? ref : undefined
}

/** Whether a document is of a kind that Isthmus reads. */
export function isOurs(doc: unknown): boolean {
  const known = recognize(doc, '')
  return known.ok && known.value !== undefined
}

/** `WorkspaceSetting/bookinfo-ws-setting`, as far as the document says. */
export function nameOf(doc: unknown): string {
  const { kind, metadata } = (isMap(doc) ? doc : {}) as { kind?: unknown; metadata?: unknown }
  const name = isMap(metadata) ? metadata['name'] : undefined
  return [kind, name].filter((part) => typeof part === 'string' && part !== '').join('/')
}

interface Recognized {
  readonly info: KindInfo
  readonly apiVersion: string
  readonly raw: Readonly<Record<string, unknown>>
}

function recognize(doc: unknown, source: string): Result<Recognized | undefined, Problem> {
  if (!isMap(doc))
    return fail(problem(source, '', 'expected a Kubernetes object with apiVersion, kind and metadata'))
  const { apiVersion, kind } = doc as { apiVersion?: unknown; kind?: unknown }
  for (const [field, value] of Object.entries({ apiVersion, kind })) {
    if (typeof value !== 'string' || value === '')
      return fail(
        problem(
          `${source} ${nameOf(doc)}`.trim(),
          field,
          'expected a string, as every Kubernetes object has',
        ),
      )
  }
  const info = findKind(String(apiVersion), String(kind))
  return ok(info === undefined ? undefined : { info, apiVersion: String(apiVersion), raw: doc })
}

export function isMap(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** A Secret shows its key names only, its raw document too. */
function hideRaw(secret: ObjectOf['Secret']): ObjectOf['Secret'] {
  const { data, stringData, ...rest } = secret.raw
  const hidden = Object.keys({ ...(data as object), ...(stringData as object) })
  const shown = (): object => ({
    ...rest,
    data: Object.fromEntries(hidden.map((key) => [key, '[redacted]'])),
  })
  const raw = Object.defineProperties(
    { ...secret.raw },
    {
      toJSON: { value: shown },
      [inspect.custom]: { value: shown },
    },
  )
  return { ...secret, raw }
}
