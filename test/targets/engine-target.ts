import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import type { Problem } from '../../src/lib/result.ts'
import type { AccessLogEntry } from '../../src/proxy/access-log.ts'
import type { ProxyLimits } from '../../src/proxy/context.ts'
import type { XdsResource } from '../../src/xds/types.ts'
import { BUN, byType, type EndedConnection, EndedLog, type Resources, type Target } from './target.ts'

const MAIN = fileURLToPath(new URL('engine-main.ts', import.meta.url))

export interface EngineMainOptions {
  readonly limits?: Partial<ProxyLimits>
  /** Checks no certificate and takes everybody for this SPIFFE id: see `unchecked.ts`. */
  readonly unchecked?: string
}

/** One set of changes; answered with the same id. Without any, the process collects its garbage. */
export interface ToEngine {
  readonly id: number
  readonly changes: readonly {
    readonly typeUrl: string
    /** `body` in base64. */
    readonly upserted: readonly (Omit<XdsResource, 'body'> & { readonly body: string })[]
    readonly removed: readonly string[]
  }[]
}

export interface LiveObjects {
  readonly functions: number
  readonly byteArrays: number
  readonly timers: number
  readonly promises: number
}

interface FromEngine {
  readonly live?: LiveObjects
  readonly entry?: AccessLogEntry
  readonly id?: number
  readonly problems?: readonly Problem[]
  readonly ports?: Readonly<Record<string, number>>
}

/** Our engine in a process of Node's or Bun's. */
export class EngineTarget implements Target {
  readonly kind: 'node' | 'bun'
  /** Our own entries, with everything that `log` leaves out. */
  readonly entries: AccessLogEntry[] = []
  readonly #process: ChildProcess
  readonly #ended = new EndedLog()
  readonly #answers = new Map<number, (answer: FromEngine) => void>()
  #ports: Readonly<Record<string, number>> = {}
  #served: ReadonlyMap<string, readonly XdsResource[]> = new Map()
  #lastId = 0
  #stopping = false

  constructor(kind: 'node' | 'bun', options: EngineMainOptions = {}) {
    this.kind = kind
    this.#process = spawn(kind === 'bun' ? BUN : process.execPath, [MAIN, JSON.stringify(options)], {
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    this.#process.stdin?.on('error', () => {})
    createInterface({ input: this.#process.stdout as NodeJS.ReadableStream }).on('line', (line) =>
      this.#hear(JSON.parse(line) as FromEngine),
    )
    // Whoever waits for a process that is gone would wait for ever.
    this.#process.once('exit', (code, signal) => {
      if (!this.#stopping) throw new Error(`the engine on ${kind} ended by itself: ${code ?? signal}`)
    })
  }

  get pid(): number {
    return this.#process.pid ?? 0
  }

  get log(): readonly EndedConnection[] {
    return this.#ended.lines
  }

  async update(resources: Resources): Promise<void> {
    const next = new Map(byType(resources))
    const changes = [...next].map(([typeUrl, wanted]) => {
      const before = this.#served.get(typeUrl) ?? []
      const same = (a: XdsResource) => before.some((b) => b.name === a.name && b.version === a.version)
      return {
        typeUrl,
        upserted: wanted
          .filter((resource) => !same(resource))
          .map((resource) => ({ ...resource, body: Buffer.from(resource.body).toString('base64') })),
        removed: before.map(({ name }) => name).filter((name) => !wanted.some((w) => w.name === name)),
      }
    })
    this.#served = next
    const answer = await this.#ask(changes)
    this.#ports = answer.ports ?? {}
    if (answer.problems?.length) throw new Error(JSON.stringify(answer.problems, null, 2))
  }

  /** Resolves when its garbage is collected, with what is left. */
  async collect(): Promise<LiveObjects> {
    const { live } = await this.#ask([])
    if (live === undefined) throw new Error('the engine did not say what it holds')
    return live
  }

  port(listener: string): number {
    const port = this.#ports[listener]
    if (port === undefined) throw new Error(`no listener ${listener}`)
    return port
  }

  ended(clientPort: number, from?: number): Promise<EndedConnection> {
    return this.#ended.find(clientPort, from)
  }

  async stop(): Promise<void> {
    this.#stopping = true
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return
    const exit = once(this.#process, 'exit')
    this.#process.kill('SIGKILL')
    await exit
  }

  #ask(changes: ToEngine['changes']): Promise<FromEngine> {
    const id = ++this.#lastId
    return new Promise((resolve) => {
      this.#answers.set(id, resolve)
      this.#process.stdin?.write(`${JSON.stringify({ id, changes } satisfies ToEngine)}\n`)
    })
  }

  #hear(message: FromEngine): void {
    const { entry, id } = message
    if (entry !== undefined) {
      this.entries.push(entry)
      const { sni, peerId, bytesIn, bytesOut, flag, reason } = entry
      const clientPort = Number(entry.remoteAddress.split(':').at(-1))
      this.#ended.add({ clientPort, sni, peerId, bytesIn, bytesOut, flag, detail: reason })
    }
    if (id !== undefined) {
      this.#answers.get(id)?.(message)
      this.#answers.delete(id)
    }
  }
}
