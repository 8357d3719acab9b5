import type { Field } from './field.ts'
import type { HierarchyScope, KindInfo } from './kinds.ts'
import { dnsLabel, dnsSubdomain, hierarchyName, readAnnotations, readLabels } from './rules.ts'
import type { Condition, ObjectMeta, ObjectRef } from './types.ts'

const LEVELS = ['organization', 'tenant', 'workspace'] as const
const DEPTH: Readonly<Record<HierarchyScope, number>> = { organization: 1, tenant: 2, workspace: 3 }
/** Kinds whose name becomes a DNS label of its own. */
const LABEL_NAMED = new Set(['Namespace', 'Service'])

/** Only what identifies the object, so that a document with a mistake elsewhere is still known for what it is. */
export function readRef(document: Field, info: KindInfo): ObjectRef {
  const metadata = document.get('metadata')
  const { scope } = info
  const ref = { kind: info.kind, namespace: '', organization: '', tenant: '', workspace: '' }
  if (scope === 'namespaced') {
    const namespace = metadata.get('namespace').text('default', dnsLabel)
    return { ...ref, namespace, name: readName(metadata, info) }
  }
  if (scope === 'cluster') return { ...ref, name: readName(metadata, info) }
  for (const level of LEVELS.slice(0, DEPTH[scope])) ref[level] = readLevel(metadata, level)
  return { ...ref, name: metadata.get('name').text(undefined, hierarchyName) }
}

/** The rest of the metadata around a ref that was read. */
export function readMetadata(document: Field, ref: ObjectRef): ObjectMeta {
  const metadata = document.get('metadata')
  const { namespace, organization, tenant, workspace, name } = ref
  const creationTimestamp = metadata.get('creationTimestamp').value
  return {
    name,
    namespace,
    labels: readLabels(metadata.get('labels')),
    annotations: readAnnotations(metadata.get('annotations')),
    organization,
    tenant,
    workspace,
    // YAML reads an unquoted timestamp as text here, JSON has it as text; what is none is nobody's mistake worth a refusal.
    ...(typeof creationTimestamp === 'string' && { creationTimestamp }),
  }
}

/** `status.conditions`. */
export function readConditions(document: Field): Condition[] {
  return document
    .get('status')
    .get('conditions')
    .list((condition) => ({
      type: condition.get('type').text(),
      status: condition.get('status').oneOf(['True', 'False', 'Unknown']),
      reason: condition.get('reason').text(''),
      message: condition.get('message').text(''),
    }))
}

function readName(metadata: Field, info: KindInfo): string {
  return metadata.get('name').text(undefined, LABEL_NAMED.has(info.kind) ? dnsLabel : dnsSubdomain)
}

/** A level of the hierarchy stands in the metadata itself or, where Kubernetes stores the object, in an annotation. */
function readLevel(metadata: Field, level: (typeof LEVELS)[number]): string {
  const own = metadata.get(level)
  const annotation = metadata.get('annotations').get(`tsb.tetrate.io/${level}`)
  if (!annotation.present) return own.text(undefined, hierarchyName)
  const name = annotation.text(undefined, hierarchyName)
  if (own.present && own.value !== annotation.value)
    own.wrong(`expected the same name as ${annotation.path}, which says "${name}"`)
  return name
}
