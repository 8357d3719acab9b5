import type { Credential } from '../../identity/credential.ts'
import type { Problem, Result } from '../../lib/result.ts'
import type { ClientState } from '../../xds/client.ts'
import type { NodeInfo, Snapshot } from '../../xds/types.ts'
import type { DrainReport } from '../engine.ts'
import type { WorkerStatus } from './worker.ts'
import type { WorkerStats } from './worker-stats.ts'

/** `GET /status`, but for the workers' part. */
export interface SupervisorStatus {
  readonly node: string
  readonly discovery: ClientState & {
    /** Empty = there is none. */
    readonly address: string
    readonly identifier: string
    readonly lastUpdate: string
  }
  readonly resources: Readonly<Record<string, number>>
  /** Where the configuration came from first: `discovery`, the snapshot's file, or the file that was given. */
  readonly source: string
  readonly refused: readonly string[]
  readonly nacks: number
  readonly nacksByType: Readonly<Record<string, number>>
  /** When the configuration on disk was written or confirmed last, ISO 8601; empty = never. */
  readonly snapshotSaved: string
  /** Why a file on disk was not started from, or could not be written. */
  readonly snapshotProblems: readonly string[]
}

/** A supervisor as admin, health and metrics see it, wherever its configuration comes from. */
export interface SupervisorView {
  readonly node: NodeInfo
  readonly level: string
  /** Names of what the user's file holds rather than discovery, by type. */
  readonly fixed: Snapshot
  /** What is missing before traffic may be sent here; empty = ready. */
  pending(): Promise<string[]>
  status(): SupervisorStatus
  workers(): Promise<readonly WorkerStatus[]>
  stats(): Promise<readonly WorkerStats[]>
  /** Has those told who call it from elsewhere; how that went. */
  withdraw(): Promise<string>
  drain(deadlineMs: number, delayMs: number): Promise<Result<DrainReport, string>>
  setLevel(level: string): Promise<Result<unknown, string>>
  /** Everything the workers are given. */
  resources(): Snapshot
  /** Our own, where it is not part of the resources. */
  identity(): { readonly credential: Credential } | undefined
  /** By `type name`. */
  refused(): ReadonlyMap<string, Problem>
  credentialProblems(): readonly Problem[]
}
