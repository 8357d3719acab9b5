// Subsets of a service: parts of its endpoints by the labels of their pods, as a DestinationRule names them (istio/api
// networking/v1alpha3 Subset). Each is a server name of its own at the gateway: `outbound_.9080_.v1_.HOST`.
import { canonicalJson } from '../lib/canonical.ts'
import { own } from '../lib/own.ts'
import { fail, ok, type Result } from '../lib/result.ts'
import type { DestinationRule } from '../objects/types.ts'
import { type Conditions, nameOf } from './conditions.ts'
import { serviceHost } from './host.ts'
import { byText, type Labels, matchesLabels } from './labels.ts'
import { formatServerName, parseServerName } from './server-name.ts'
import type { ModelEndpoint, ModelPort, ModelSubset } from './types.ts'

/** Of one service; each costs every gateway an upstream for every port. */
const SUBSETS_MAX = 32
/** Labels of one. */
const LABELS_MAX = 16
/** Annotation of a ServiceEntry: the subsets of its host and their labels, as JSON. */
export const SUBSETS_ANNOTATION = 'isthmus.io/subsets'
/** Labels of an endpoint: how many of a subset are ready behind it. */
const SUBSET_LABEL_PREFIX = 'subset.isthmus.io/'

/** Where Istio looks for rules that have a service's own namespace to yield to. */
const ROOT_NAMESPACE = 'istio-system'

/** The host that a rule means: a name without dots is a Service of the rule's own namespace (Istio's ResolveShortnameToFQDN). */
export function hostOfRule({ metadata, spec }: DestinationRule): string {
  const host = spec.host.toLowerCase()
  return host.includes('.') ? host : serviceHost(host, metadata.namespace)
}

/**
 * The subsets of a service, by name. Its own namespace says what they are; where it says nothing, the root namespace. Of two with one
 * name the first rule's counts, rules sorted by their names. What cannot be one is a condition of its rule.
 */
export function collectSubsets(
  service: {
    readonly host: string
    readonly namespace: string
    readonly ports: readonly { number: number }[]
  },
  rules: readonly DestinationRule[],
  conditions: Conditions,
): readonly ModelSubset[] {
  const subsets = new Map<string, ModelSubset>()
  const serverNames = new Set<string>()
  for (const rule of rulesFor(service.namespace, rules, conditions)) {
    for (const [i, { name, labels }] of rule.spec.subsets.entries()) {
      // One that is shortened for TLS may come out as what another is called.
      const serverName = formatServerName({ port: 1, subset: name, host: service.host })
      const mistake =
        mistakeIn(service, name, labels) ??
        (serverNames.has(serverName)
          ? 'another subset of the host has this name in TLS, which counts'
          : undefined) ??
        (subsets.size >= SUBSETS_MAX ? `a host has at most ${SUBSETS_MAX} subsets` : undefined)
      if (mistake === undefined) {
        subsets.set(name, { name, labels })
        serverNames.add(serverName)
      } else
        conditions.fails(rule, 'Accepted', 'InvalidSubset', `spec.subsets[${i}].name: "${name}": ${mistake}`)
    }
  }
  return [...subsets.values()].sort((a, b) => byText(a.name, b.name))
}

function rulesFor(
  namespace: string,
  rules: readonly DestinationRule[],
  conditions: Conditions,
): readonly DestinationRule[] {
  const exported = rules.filter((rule) => {
    const { exportTo } = rule.spec
    if (exportTo.length === 0 || exportTo.includes('*')) return true
    const message = `spec.exportTo: ${exportTo.join(', ')} hides it; subsets are for every caller`
    conditions.fails(rule, 'Accepted', 'NotExported', message)
    return false
  })
  const own = exported.filter(({ metadata }) => metadata.namespace === namespace)
  const counting =
    own.length > 0 ? own : exported.filter(({ metadata }) => metadata.namespace === ROOT_NAMESPACE)
  for (const rule of exported) {
    if (counting.includes(rule)) continue
    const message = `spec.host: the subsets of a service are named in its own namespace, "${namespace}"${own.length > 0 ? ', where a rule does' : `, or in "${ROOT_NAMESPACE}"`}`
    conditions.holds(rule, 'Accepted', 'SubsetsOfAnotherNamespace', message)
  }
  return counting.toSorted((a, b) => byText(nameOf(a), nameOf(b)))
}

/** Why a subset cannot be served: it must be nameable in TLS with every port. */
function mistakeIn(
  { host, ports }: { readonly host: string; readonly ports: readonly { readonly number: number }[] },
  name: string,
  labels: Labels,
): string | undefined {
  if (Object.keys(labels).length > LABELS_MAX) return `has more than ${LABELS_MAX} labels`
  const port = Math.max(1, ...ports.map(({ number }) => number))
  const parsed = parseServerName(formatServerName({ port, subset: name, host }))
  if (parsed.ok) return name === '' ? 'expected a name' : undefined
  return `cannot be named in TLS: the server name ${parsed.error}`
}

/** The endpoints of a subset: those whose pods carry all its labels; with no labels, all. */
export function endpointsIn(endpoints: readonly ModelEndpoint[], { labels }: ModelSubset): ModelEndpoint[] {
  return endpoints.filter(
    (endpoint) => Object.keys(labels).length === 0 || matchesLabels(labels, endpoint.labels),
  )
}

/** Endpoint labels with how many of each subset are ready, by the port that has the most. */
export function subsetLabels(ports: readonly ModelPort[], subsets: readonly ModelSubset[]): Labels {
  const readyIn = (subset: ModelSubset): number =>
    Math.max(
      0,
      ...ports.map(({ endpoints }) => endpointsIn(endpoints, subset).filter(({ ready }) => ready).length),
    )
  return Object.fromEntries(
    subsets.map((subset) => [`${SUBSET_LABEL_PREFIX}${subset.name}`, String(readyIn(subset))]),
  )
}

/** The inverse: by subset, how many are ready behind the endpoint. */
export function readySubsets(labels: Labels): Readonly<Record<string, number>> {
  const found = Object.entries(labels).flatMap(([key, value]) => {
    const ready = Number(value)
    return key.startsWith(SUBSET_LABEL_PREFIX) && Number.isInteger(ready) && ready >= 0
      ? [[key.slice(SUBSET_LABEL_PREFIX.length), ready] as const]
      : []
  })
  return Object.fromEntries(found)
}

/** The annotation of an entry whose host has these subsets; none for none. */
export function subsetsAnnotation(subsets: readonly ModelSubset[]): Labels {
  if (subsets.length === 0) return {}
  const byName = subsets.map(({ name, labels }) => [name, labels] as const)
  return { [SUBSETS_ANNOTATION]: canonicalJson(Object.fromEntries(byName)) }
}

/** The subsets that the annotation of an entry names; none where it is not understood. */
export function annotatedSubsets(annotations: Labels): readonly ModelSubset[] {
  const parsed = parseSubsets(own(annotations, SUBSETS_ANNOTATION) ?? '{}')
  return parsed.ok ? parsed.value : []
}

/** The inverse of `subsetsAnnotation`, from text that anybody may have written. */
export function parseSubsets(text: string): Result<readonly ModelSubset[], string> {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    return fail('is no JSON')
  }
  if (!isMap(value)) return fail('expected a map of subsets')
  const subsets = Object.entries(value)
  if (subsets.length > SUBSETS_MAX)
    return fail(`has ${subsets.length} subsets, expected at most ${SUBSETS_MAX}`)
  const found: ModelSubset[] = []
  for (const [name, labels] of subsets) {
    const mistake = isLabels(labels) ? mistakeIn({ host: 'a', ports: [] }, name, labels) : 'expected labels'
    if (mistake !== undefined || !isLabels(labels)) return fail(`subset "${name.slice(0, 64)}": ${mistake}`)
    found.push({ name, labels })
  }
  return ok(found.sort((a, b) => byText(a.name, b.name)))
}

const isMap = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

// k8s.io/apimachinery util/validation.
const KEY = /^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?\/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$/
const VALUE = /^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$/

const isLabels = (value: unknown): value is Labels =>
  isMap(value) &&
  Object.entries(value).every(([key, text]) => KEY.test(key) && typeof text === 'string' && VALUE.test(text))
