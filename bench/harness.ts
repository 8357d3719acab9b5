// The two ends of every measurement, each a process of its own, and the identities that all of them use.
import { type ChildProcess, fork } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { createCa } from '../src/identity/ca.ts'
import type { LoadTls } from '../src/load/plan.ts'
import type { BackendCounters } from './backend.ts'
import type { Load, LoadResult, Mark } from './client.ts'
import type { Job } from './job.ts'
import type { Target } from './targets.ts'

const here = dirname(fileURLToPath(import.meta.url))
const TRUST_DOMAIN = 'bench.local'

type Identity = Pick<Load, 'certificatePem' | 'privateKeyPem' | 'caPem'>

export class Harness {
  readonly job: Job
  /** Removed at the end. */
  readonly folder: string
  readonly #backend: ChildProcess
  readonly #client: ChildProcess
  readonly #identity: Identity

  private constructor(
    job: Job,
    identity: Identity,
    processes: { readonly backend: ChildProcess; readonly client: ChildProcess },
  ) {
    this.job = job
    this.folder = mkdtempSync(join(tmpdir(), 'isthmus-bench-'))
    this.#identity = identity
    this.#backend = processes.backend
    this.#client = processes.client
  }

  static async start(): Promise<Harness> {
    const ca = await createCa({ trustDomain: TRUST_DOMAIN })
    const lifetimeMs = 3_600_000
    const gateway = await ca.issue({ namespace: 'bench', serviceAccount: 'eastwest', lifetimeMs })
    const caller = await ca.issue({ namespace: 'bench', serviceAccount: 'client', lifetimeMs })
    const backend = fork(join(here, 'backend.ts'))
    const client = fork(join(here, 'client.ts'))
    const backendPort = await ask(backend, undefined, ({ port }) => port as number | undefined)
    const job: Job = {
      trustDomain: TRUST_DOMAIN,
      serverName: 'outbound_.80_._.backend.bench.svc.cluster.local',
      backendPort,
      certificatePem: gateway.certificatePem,
      privateKeyPem: gateway.privateKeyPem,
      caPem: ca.bundlePem,
    }
    const { certificatePem, privateKeyPem } = caller
    return new Harness(job, { certificatePem, privateKeyPem, caPem: ca.bundlePem }, { backend, client })
  }

  /** Who calls, for the load generator. */
  get loadTls(): LoadTls {
    return { ...this.#identity, serverNames: [this.job.serverName] }
  }

  /** Who calls, for a load of one's own. */
  get caller(): Identity & Pick<Load, 'host' | 'servername'> {
    return { ...this.#identity, host: '127.0.0.1', servername: this.job.serverName }
  }

  get backendPid(): number {
    return this.#backend.pid ?? 0
  }

  /** Of a target's own files. */
  folderOf(name: string): string {
    return join(this.folder, name.replaceAll(/\W+/g, '-'))
  }

  counters(): Promise<BackendCounters> {
    return ask(this.#backend, 'counters', ({ counters }) => counters as BackendCounters | undefined)
  }

  /**
   * Puts the load on a target; resolves when it is over or, for connections that are held, when they are there. `onMark` is called as
   * the measured part begins and as it ends, while the load waits.
   */
  async drive(
    target: Target,
    load: Pick<Load, 'mode' | 'connections' | 'size' | 'seconds'>,
    onMark: (mark: Mark) => void = () => {},
  ): Promise<LoadResult> {
    const whole: Load = {
      ...this.#identity,
      host: '127.0.0.1',
      port: target.port,
      servername: this.job.serverName,
      ...load,
    }
    const take = ({ mark }: { readonly mark?: Mark }): void => {
      if (mark === undefined) return
      onMark(mark)
      this.#client.send('go on')
    }
    this.#client.on('message', take)
    try {
      return await ask(this.#client, whole, ({ result }) => result as LoadResult | undefined)
    } finally {
      this.#client.off('message', take)
    }
  }

  /** Ends the connections that are held. */
  async release(): Promise<void> {
    await ask(this.#client, 'release', ({ released }) => released)
    await ask(this.#backend, 'release', ({ counters }) => counters)
  }

  stop(): void {
    for (const child of [this.#client, this.#backend]) if (child.connected) child.disconnect()
    rmSync(this.folder, { recursive: true, force: true })
  }
}

function ask<T>(
  child: ChildProcess,
  question: unknown,
  pick: (answer: Record<string, unknown>) => T | undefined,
): Promise<T> {
  return new Promise((resolve, reject) => {
    const gone = (code: number | null, signal: string | null): void =>
      reject(new Error(`${child.spawnargs.at(-1)} of the harness ended with ${signal ?? code}`))
    const take = (answer: Record<string, unknown>): void => {
      const picked = pick(answer)
      if (picked === undefined) return
      child.off('message', take)
      child.off('exit', gone)
      resolve(picked)
    }
    child.once('exit', gone)
    child.on('message', take)
    if (question !== undefined) child.send(question as object)
  })
}
