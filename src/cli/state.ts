import { readFileSync } from 'node:fs'
import { fail, ok, type Result } from '../lib/result.ts'

/** What the demo's `--state FILE` says of one cluster, as far as commands need it. Absent parts are not running. */
export interface StateCluster {
  readonly id: string
  readonly trustDomain: string
  readonly ca: { readonly cert: string; readonly root: string } | undefined
  readonly discovery: string | undefined
  readonly gateway: string | undefined
  readonly sidecar: string | undefined
  readonly identities: readonly { readonly name: string; readonly cert: string; readonly key: string }[]
}

/** Reads a state file; sorted by cluster. The error is one line. */
export function readState(path: string): Result<readonly StateCluster[], string> {
  let document: unknown
  try {
    document = JSON.parse(readFileSync(path, 'utf8'))
  } catch (error) {
    return fail(`${path}: ${error instanceof Error ? error.message : String(error)}`)
  }
  const clusters = Object.entries(members(members(document)['clusters'])).map(([id, cluster]) =>
    readCluster(id, members(cluster)),
  )
  if (clusters.length === 0)
    return fail(`${path}: clusters: expected at least one; is this a file of the demo's --state?`)
  return ok(clusters.sort((a, b) => (a.id < b.id ? -1 : 1)))
}

function readCluster(id: string, cluster: Members): StateCluster {
  const ca = members(cluster['ca'])
  const [cert, root] = [text(ca['cert']), text(ca['root'])]
  return {
    id,
    trustDomain: text(cluster['trustDomain']) ?? '',
    ca: cert === undefined || root === undefined ? undefined : { cert, root },
    discovery: text(members(cluster['discovery'])['admin']),
    gateway: text(members(cluster['gateway'])['admin']),
    sidecar: text(members(cluster['sidecar'])['admin']),
    identities: Object.entries(members(cluster['identities'])).flatMap(([name, identity]) => {
      const [cert, key] = [text(members(identity)['cert']), text(members(identity)['key'])]
      return cert === undefined || key === undefined ? [] : [{ name, cert, key }]
    }),
  }
}

type Members = Readonly<Record<string, unknown>>

function members(value: unknown): Members {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Members) : {}
}

const text = (value: unknown): string | undefined =>
  typeof value === 'string' && value !== '' ? value : undefined
