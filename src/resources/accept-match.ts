import type { StringMatcher } from '../xds/gen/envoy/type/matcher/v3/string_pb.js'
import type { AcceptContext } from './accept-context.ts'
import type { StringMatch } from './accept-types.ts'

const NOTHING: StringMatch = { kind: 'exact', value: '', ignoreCase: false }

/** Reads a StringMatcher. Regular expressions are refused: unescaped dots in them are how names of others match. */
export function readStringMatch(
  ctx: AcceptContext,
  matcher: StringMatcher | undefined,
  path: string,
): StringMatch {
  const pattern = matcher?.matchPattern
  if (matcher === undefined || pattern?.case === undefined) {
    ctx.refuse(path, 'expected one of exact, prefix, suffix, contains')
    return NOTHING
  }
  if (pattern.case === 'safeRegex' || pattern.case === 'custom') {
    ctx.refuse(`${path}.${pattern.case === 'custom' ? 'custom' : 'safe_regex'}`, 'not supported')
    return NOTHING
  }
  if (pattern.value === '' && pattern.case !== 'exact')
    ctx.refuse(`${path}.${pattern.case}`, 'expected text that is not empty')
  return { kind: pattern.case, value: pattern.value, ignoreCase: matcher.ignoreCase }
}

/** Whether `text` matches. Case is folded for ASCII and the rest alike, but only where the matcher says so. */
export function matchesString(match: StringMatch, text: string): boolean {
  const value = match.ignoreCase ? match.value.toLowerCase() : match.value
  const subject = match.ignoreCase ? text.toLowerCase() : text
  switch (match.kind) {
    case 'exact':
      return subject === value
    case 'prefix':
      return subject.startsWith(value)
    case 'suffix':
      return subject.endsWith(value)
    case 'contains':
      return subject.includes(value)
  }
}
