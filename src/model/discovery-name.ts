import { contentHash } from '../lib/canonical.ts'
import { isDnsLabel } from './host.ts'

/** `.internal` is nobody's on the Internet (ICANN, 2024), and no service of a cluster is called so. */
const SUFFIX = '.isthmus.internal'

/**
 * The server name under which a cluster's discovery server is called by its peers: at a gateway's 15443 it leads there, and at
 * the discovery server itself it says that nobody but a peer may be calling.
 */
export function discoveryServerName(cluster: string): string {
  return `discovery.${labelOf(cluster)}${SUFFIX}`
}

/** The server name under which a cluster takes the tokens of those who want to be linked to it. */
export function linkServerName(cluster: string): string {
  return `link.${labelOf(cluster)}${SUFFIX}`
}

/** Whether a server name is one of these, of whatever cluster. */
export function isReservedServerName(name: string): boolean {
  return /^(discovery|link)\.[a-z0-9-]+\.isthmus\.internal$/.test(name.toLowerCase())
}

/** An id that is no DNS label is hashed: server names are compared without case, and have no other characters. */
function labelOf(cluster: string): string {
  return isDnsLabel(cluster) ? cluster : `c-${contentHash(cluster).slice(0, 16)}`
}
