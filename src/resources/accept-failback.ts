import type { Metadata } from '../xds/gen/envoy/config/core/v3/base_pb.js'
import { OWN_METADATA } from './accept-aliases.ts'
import type { AcceptContext } from './accept-context.ts'
import type { FailbackConfig } from './upstream-types.ts'

const MS_MAX = 2 ** 31 - 1

/** `isthmus.failback` of a Cluster, `{quiet_ms, deadline_ms}`; undefined: connections stay where they are, as with Envoy. */
export function readFailback(ctx: AcceptContext, metadata: Metadata | undefined): FailbackConfig | undefined {
  const value = metadata?.filterMetadata[OWN_METADATA]?.['failback']
  if (value === undefined) return undefined
  const path = `metadata.filter_metadata["${OWN_METADATA}"].failback`
  const { quiet_ms: quietMs, deadline_ms: deadlineMs } = Object(value) as Record<string, unknown>
  if (isMs(quietMs) && isMs(deadlineMs)) return { quietMs, deadlineMs }
  ctx.refuse(path, `expected quiet_ms and deadline_ms, whole numbers from 1 to ${MS_MAX}`)
  return undefined
}

const isMs = (value: unknown): value is number =>
  typeof value === 'number' && Number.isInteger(value) && value >= 1 && value <= MS_MAX
