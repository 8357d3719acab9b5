import type { FilterChainConfig } from '../resources/accept-types.ts'
import type { Policy } from './rbac.ts'
import type { TlsEdge } from './tls-edge.ts'

/** A filter chain in force. */
export interface ServedChain {
  /** What connections remember of it; a chain whose mode changes is another one, although its name stays. */
  readonly key: string
  readonly config: FilterChainConfig
  /** Set where it terminates TLS. */
  readonly edge: TlsEdge | undefined
  readonly policy: Policy
}

export const chainKey = ({ name, mode }: FilterChainConfig): string => `${mode} ${name}`
