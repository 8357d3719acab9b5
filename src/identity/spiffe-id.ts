import { fail, ok, type Result } from '../lib/result.ts'

/** A SPIFFE ID (SPIFFE-ID specification, section 2). */
export interface SpiffeId {
  readonly trustDomain: string
  /** Begins with `/`; empty for the id of a trust domain itself. */
  readonly path: string
  /** The whole id, in its one canonical spelling. */
  readonly uri: string
}

const SCHEME = 'spiffe://'
/** SPIFFE-ID section 2.3. */
const MAX_ID_BYTES = 2048
/** SPIFFE-ID section 2.1. */
const MAX_TRUST_DOMAIN_BYTES = 255

/** What is wrong with a trust domain's name, or undefined. */
export function trustDomainError(name: string): string | undefined {
  if (name === '') return 'the trust domain is empty'
  if (name.length > MAX_TRUST_DOMAIN_BYTES)
    return `the trust domain is longer than ${MAX_TRUST_DOMAIN_BYTES} bytes`
  if (!/^[a-z0-9._-]+$/.test(name))
    return 'the trust domain may hold only a-z, 0-9, ".", "-" and "_" (no port, no user)'
  return undefined
}

function pathError(path: string): string | undefined {
  if (path === '') return undefined
  for (const segment of path.slice(1).split('/')) {
    if (segment === '') return 'the path has an empty segment or ends in "/"'
    if (segment === '.' || segment === '..') return 'the path has a "." or ".." segment'
    if (!/^[A-Za-z0-9._-]+$/.test(segment)) {
      return 'the path may hold only letters, digits, ".", "-" and "_" (no "%", query or fragment)'
    }
  }
  return undefined
}

/**
 * Reads an id strictly: there is one spelling of each id, nothing is normalised, so equal ids are equal strings and
 * nobody can write one that two readers understand differently.
 */
export function parseSpiffeId(text: string): Result<SpiffeId, string> {
  if (text.length > MAX_ID_BYTES) return fail(`longer than ${MAX_ID_BYTES} bytes`)
  if (!text.startsWith(SCHEME)) return fail('does not begin with "spiffe://"')
  const rest = text.slice(SCHEME.length)
  const slash = rest.indexOf('/')
  const trustDomain = slash < 0 ? rest : rest.slice(0, slash)
  const path = slash < 0 ? '' : rest.slice(slash)
  const error = trustDomainError(trustDomain) ?? pathError(path)
  return error === undefined ? ok({ trustDomain, path, uri: text }) : fail(error)
}

/** Istio's form of a workload's id: `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`. */
export function workloadId(trustDomain: string, namespace: string, serviceAccount: string): string {
  return `${SCHEME}${trustDomain}/ns/${namespace}/sa/${serviceAccount}`
}

/** The namespace and service account of an id in Istio's form; undefined for any other. */
export function parseWorkload(
  id: Pick<SpiffeId, 'path'>,
): { readonly namespace: string; readonly serviceAccount: string } | undefined {
  const match = /^\/ns\/([^/]+)\/sa\/([^/]+)$/.exec(id.path)
  const [, namespace, serviceAccount] = match ?? []
  return namespace === undefined || serviceAccount === undefined ? undefined : { namespace, serviceAccount }
}

/** Where a cluster's discovery server runs, and as whom: part of its identity in every cluster. */
export const DISCOVERY_NAMESPACE = 'isthmus-system'
export const DISCOVERY_ACCOUNT = 'isthmus-discovery'

/** The SPIFFE id of a cluster's discovery server. */
export function discoveryId(trustDomain: string): string {
  return workloadId(trustDomain, DISCOVERY_NAMESPACE, DISCOVERY_ACCOUNT)
}
