// A data plane as a process of its own, configured by Envoy resources alone: our engine on Node, our engine on Bun, or Envoy.
// What holds for one must be asked of the others in the same words.
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { TYPE, type XdsResource } from '../../src/xds/types.ts'

export type TargetKind = 'node' | 'bun' | 'envoy'

/** Everything that one data plane is to serve. */
export interface Resources {
  readonly listeners: readonly XdsResource[]
  readonly clusters: readonly XdsResource[]
  readonly endpoints: readonly XdsResource[]
  readonly secrets: readonly XdsResource[]
}

/** One access log line: what every data plane can tell of a connection that has ended. */
export interface EndedConnection {
  /** Port of the client's end: which connection it was. */
  readonly clientPort: number
  readonly sni: string
  readonly peerId: string
  readonly bytesIn: number
  readonly bytesOut: number
  /** Our flag, or Envoy's RESPONSE_FLAGS. */
  readonly flag: string
  /** Our reason, or Envoy's RESPONSE_CODE_DETAILS, CONNECTION_TERMINATION_DETAILS and transport failure. */
  readonly detail: string
}

export interface Target {
  readonly kind: TargetKind
  readonly pid: number
  /** Serves exactly these resources from now on; resolves once they are in force. Rejects when one of them is refused. */
  update(resources: Resources): Promise<void>
  /** The port that a listener was given. */
  port(listener: string): number
  readonly log: readonly EndedConnection[]
  /** The log line of the connection that came from this port; waits for it. Port numbers come round again: `from` skips older lines. */
  ended(clientPort: number, from?: number): Promise<EndedConnection>
  stop(): Promise<void>
}

export const BUN = fileURLToPath(
  new URL(
    `../../node_modules/@oven/bun-linux-${process.arch === 'arm64' ? 'aarch64' : 'x64'}/bin/bun`,
    import.meta.url,
  ),
)
export const ENVOY = process.env['ENVOY_BIN'] ?? ''

/** Why a kind cannot run here; undefined when it can. In CI nothing may be missing, so there a missing one fails when it is started. */
export function unavailable(kind: TargetKind): string | undefined {
  if (process.env['CI'] !== undefined) return undefined
  if (kind === 'bun' && !existsSync(BUN)) return `no Bun at ${BUN}`
  if (kind === 'envoy' && ENVOY === '') return 'ENVOY_BIN is not set'
  return undefined
}

/** In the order in which a data plane wants them: what is referred to comes first. */
export function byType(resources: Resources): readonly (readonly [string, readonly XdsResource[]])[] {
  return [
    [TYPE.cluster, resources.clusters],
    [TYPE.endpoints, resources.endpoints],
    [TYPE.secret, resources.secrets],
    [TYPE.listener, resources.listeners],
  ]
}

/** Access log lines that can be waited for. */
export class EndedLog {
  readonly lines: EndedConnection[] = []
  readonly #waiting = new Set<() => void>()

  add(line: EndedConnection): void {
    this.lines.push(line)
    for (const check of [...this.#waiting]) check()
  }

  find(clientPort: number, from = 0): Promise<EndedConnection> {
    return new Promise((resolve) => {
      const check = () => {
        const found = this.lines.slice(from).find((line) => line.clientPort === clientPort)
        if (found === undefined) return
        this.#waiting.delete(check)
        resolve(found)
      }
      this.#waiting.add(check)
      check()
    })
  }
}
