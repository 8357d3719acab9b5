// `control_plane.identifier` of the answers to a peer: what MCP has no field for. Unknown members are ignored, absent ones are an
// older release's or another product's.
import { VERSION } from '../lib/version.ts'
import type { Decision, Model } from '../model/types.ts'

/** Who answers, whether he lets the peer's network call, and how far what he sends can be relied on. */
export interface ExportsIdentifier {
  readonly cluster: string
  readonly network: string
  readonly allowed: boolean
  readonly reason: string
  /** Release of the product, as `VERSION`. */
  readonly version: string
  /** Of this life of the view: it knows of no deletion before. */
  readonly epoch: string
  /** Counts the changes of the exports in this epoch, from 1. */
  readonly generation: number
  /** How many there are in this generation. */
  readonly entries: number
  /** False: whatever is missing may have been lost and not deleted. */
  readonly complete: boolean
}

/** What a view of exports is at. */
export interface ExportsState
  extends Pick<ExportsIdentifier, 'epoch' | 'generation' | 'entries' | 'complete'> {}

export function exportsIdentifier(model: Model, cluster: string, state: ExportsState): string {
  const { id, network } = model.self
  const peer = model.clusters.get(cluster)
  const { allowed, reason }: Decision =
    peer === undefined
      ? { allowed: false, reason: `cluster ${cluster} is no peer any more` }
      : model.mayCall(peer, model.self)
  const full: ExportsIdentifier = { cluster: id, network, allowed, reason, version: VERSION, ...state }
  return JSON.stringify(full)
}

/** What an older release, or another product, may have left out. */
export type HeardIdentifier = Partial<ExportsIdentifier>

/** Reads what a peer sent: members of the wrong type are as if absent, so nothing in it can throw. */
export function readExportsIdentifier(text: string): HeardIdentifier {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    return {}
  }
  if (typeof value !== 'object' || value === null) return {}
  const members = value as Record<string, unknown>
  const read: Record<string, unknown> = {}
  for (const [name, type] of Object.entries(TYPES)) {
    const member = members[name]
    if (typeof member === type) read[name] = typeof member === 'string' ? member.slice(0, TEXT_MAX) : member
  }
  return read as HeardIdentifier
}

const TEXT_MAX = 1_024
const TYPES: Readonly<Record<keyof ExportsIdentifier, 'string' | 'boolean' | 'number'>> = {
  cluster: 'string',
  network: 'string',
  allowed: 'boolean',
  reason: 'string',
  version: 'string',
  epoch: 'string',
  generation: 'number',
  entries: 'number',
  complete: 'boolean',
}

/**
 * Tells a store that was emptied from one that has lost its objects: nobody deletes all services of a cluster at one stroke, but a
 * volume that was not mounted, or a list that came back empty, looks just so.
 */
export class Completeness {
  #services = 0
  #complete = false

  /** Whether what a model lacks was deleted. Call it with every model, in order. */
  judge({ services }: Pick<Model, 'services'>): boolean {
    if (services.length > 0) this.#complete = true
    else if (this.#services > 1) this.#complete = false
    this.#services = services.length
    return this.#complete
  }
}
