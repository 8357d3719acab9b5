import { isIP } from 'node:net'
import type { Metadata } from '../xds/gen/envoy/config/core/v3/base_pb.js'
import type { AcceptContext } from './accept-context.ts'

/** Key in `metadata.filter_metadata` that holds what is ours alone, and which an Envoy does not read. */
export const OWN_METADATA = 'isthmus'

/**
 * `isthmus.aliases` of a Cluster: further server names that lead to it with `sni_cluster`. They must be spelt as a ClientHello's name
 * is read: lower-case visible ASCII, no trailing dot.
 */
export function readAliases(ctx: AcceptContext, metadata: Metadata | undefined): readonly string[] {
  const aliases = metadata?.filterMetadata[OWN_METADATA]?.['aliases']
  if (aliases === undefined) return []
  const path = `metadata.filter_metadata["${OWN_METADATA}"].aliases`
  if (!Array.isArray(aliases)) {
    ctx.refuse(path, 'expected a list of server names')
    return []
  }
  for (const [i, alias] of aliases.entries()) {
    if (typeof alias !== 'string' || !isServerName(alias))
      ctx.refuse(`${path}[${i}]`, 'expected a server name in lower case, without a trailing dot')
  }
  return aliases.filter((alias) => typeof alias === 'string')
}

const isServerName = (name: string): boolean =>
  /^[\x21-\x40\x5b-\x7e]{1,255}$/.test(name) && !name.endsWith('.') && isIP(name) === 0
