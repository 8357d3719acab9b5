import { own } from '../lib/own.ts'
import { PROXY_PROTOCOL_ANNOTATION } from '../objects/types.ts'

const VERSIONS = { v1: 'V1', v2: 'V2' } as const
export type ProxyProtocolVersion = (typeof VERSIONS)[keyof typeof VERSIONS]

/** Undefined: none is asked for, or something that is no version. */
export function proxyProtocolOf(
  annotations: Readonly<Record<string, string>>,
): ProxyProtocolVersion | undefined {
  const said = own(annotations, PROXY_PROTOCOL_ANNOTATION)
  return said === undefined ? undefined : own<ProxyProtocolVersion>(VERSIONS, said)
}

/** What is wrong with the annotation; undefined: nothing. */
export function proxyProtocolMistake(annotations: Readonly<Record<string, string>>): string | undefined {
  const said = own(annotations, PROXY_PROTOCOL_ANNOTATION)
  if (said === undefined || proxyProtocolOf(annotations) !== undefined) return undefined
  return `metadata.annotations["${PROXY_PROTOCOL_ANNOTATION}"]: expected v1 or v2, found "${said}"; it counts as not given`
}
