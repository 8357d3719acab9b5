// envoy.type.matcher.v3.NodeMatcher: which clients a status request is about.

import type { NodeMatcher } from './gen/envoy/type/matcher/v3/node_pb.js'
import type { StringMatcher } from './gen/envoy/type/matcher/v3/string_pb.js'
import type { StructMatcher } from './gen/envoy/type/matcher/v3/struct_pb.js'
import type { ValueMatcher } from './gen/envoy/type/matcher/v3/value_pb.js'
import type { NodeInfo } from './types.ts'

/** What cannot be asked here; the message is for the one who asks. */
export class UnsupportedMatcher extends Error {}

/** Any of the matchers; none given: every client. Throws `UnsupportedMatcher`. */
export function matchesAny(matchers: readonly NodeMatcher[], node: NodeInfo): boolean {
  return matchers.length === 0 || matchers.some((matcher) => matches(matcher, node))
}

/** All parts of one matcher. */
function matches({ nodeId, nodeMetadatas }: NodeMatcher, { id, metadata }: NodeInfo): boolean {
  const idMatches = nodeId === undefined || matchesString(nodeId, id)
  return nodeMetadatas.every((matcher) => matchesStruct(matcher, metadata)) && idMatches
}

function matchesString({ matchPattern, ignoreCase }: StringMatcher, text: string): boolean {
  const fold = (one: string) => (ignoreCase ? one.toLowerCase() : one)
  const value = fold(text)
  switch (matchPattern.case) {
    case 'exact':
      return value === fold(matchPattern.value)
    case 'prefix':
      return value.startsWith(fold(matchPattern.value))
    case 'suffix':
      return value.endsWith(fold(matchPattern.value))
    case 'contains':
      return value.includes(fold(matchPattern.value))
    default:
      // RE2 is not at hand, and the patterns that this runtime takes can keep it busy for ever.
      throw new UnsupportedMatcher(
        `a string matcher must be exact, prefix, suffix or contains, not ${matchPattern.case ?? 'empty'}`,
      )
  }
}

function matchesStruct({ path, value }: StructMatcher, metadata: unknown): boolean {
  let at: unknown = metadata
  for (const { segment } of path) {
    if (segment.case !== 'key')
      throw new UnsupportedMatcher('a path of a struct matcher must consist of keys')
    at = isRecord(at) && Object.hasOwn(at, segment.value) ? at[segment.value] : undefined
  }
  if (path.length === 0 || value === undefined)
    throw new UnsupportedMatcher('a struct matcher must have a path and a value')
  return matchesValue(value, at)
}

function matchesValue({ matchPattern }: ValueMatcher, value: unknown): boolean {
  switch (matchPattern.case) {
    case 'nullMatch':
      return value === null
    case 'boolMatch':
      return value === matchPattern.value
    case 'presentMatch':
      return (value !== undefined) === matchPattern.value
    case 'stringMatch':
      return typeof value === 'string' && matchesString(matchPattern.value, value)
    case 'doubleMatch':
      return typeof value === 'number' && matchesNumber(matchPattern.value.matchPattern, value)
    case 'listMatch': {
      const { matchPattern: list } = matchPattern.value
      const one = list.case === 'oneOf' ? list.value : undefined
      return one !== undefined && Array.isArray(value) && value.some((each) => matchesValue(one, each))
    }
    case 'orMatch':
      return matchPattern.value.valueMatchers.some((one) => matchesValue(one, value))
    default:
      throw new UnsupportedMatcher('a value matcher must not be empty')
  }
}

type NumberPattern =
  | { readonly case: 'exact'; readonly value: number }
  | { readonly case: 'range'; readonly value: { readonly start: number; readonly end: number } }
  | { readonly case: undefined; readonly value?: undefined }

function matchesNumber(pattern: NumberPattern, value: number): boolean {
  if (pattern.case === 'exact') return pattern.value === value
  return pattern.case === 'range' && pattern.value.start <= value && value < pattern.value.end
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
