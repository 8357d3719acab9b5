// What an engine says of itself, to people and to other processes: plain data.
import { type CrlStatus, crlStatus } from '../identity/attach-crls.ts'
import type { Problem } from '../lib/result.ts'
import type { SecretConfig } from '../resources/accept-types.ts'
import type { Counters } from './connection-table.ts'
import type { Listener, ListenerStatus } from './listener.ts'
import type { UpstreamStatus } from './upstream-status.ts'

export interface SecretStatus {
  readonly name: string
  readonly kind: 'credential' | 'trust'
  readonly version: string
  /** SPIFFE id of a credential, trust domains of a validation context. */
  readonly detail: string
  /** ISO 8601; empty for trust. */
  readonly notAfter: string
  /** Of trust: the CRLs in force. */
  readonly crls: readonly CrlStatus[]
}

export interface EngineStatus {
  readonly name: string
  readonly listeners: readonly ListenerStatus[]
  readonly upstreams: readonly UpstreamStatus[]
  readonly secrets: readonly SecretStatus[]
  readonly connections: { readonly open: number; readonly opening: number }
  readonly counters: Counters
  /** What is refused or cannot be put in force now. */
  readonly problems: readonly Problem[]
}

export interface DrainReport {
  /** Connections that ended by themselves while draining. */
  readonly finished: number
  /** Connections cut at the deadline, by upstream. */
  readonly cut: Readonly<Record<string, number>>
}

export function secretStatus(secret: SecretConfig, nowMs: number): SecretStatus {
  const { name, kind, version } = secret
  if (secret.kind === 'credential') {
    const { id, notAfterMs } = secret.credential
    return { name, kind, version, detail: id.uri, notAfter: new Date(notAfterMs).toISOString(), crls: [] }
  }
  const { bundles } = secret
  const crls = crlStatus(bundles, nowMs)
  return { name, kind, version, detail: bundles.trustDomains.join(' '), notAfter: '', crls }
}

/** How many listeners are in each phase. */
export function countPhases(listeners: Iterable<Pick<Listener, 'state'>>): Record<string, number> {
  const phases: Record<string, number> = {}
  for (const { state } of listeners) phases[state.phase] = (phases[state.phase] ?? 0) + 1
  return phases
}

/** For `sort`. */
export function byName(a: { readonly name: string }, b: { readonly name: string }): number {
  return a.name < b.name ? -1 : 1
}
