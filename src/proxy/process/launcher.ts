import type { DrainReport } from '../engine.ts'
import type { ChildNotice, Program } from './child.ts'
import { sumReports } from './drain-report.ts'
import { type LauncherEntry, printEntry } from './launcher-log.ts'
import { type SharedAddress, SharedSockets } from './shared-sockets.ts'
import { type ChildName, EXIT_USAGE, Slot } from './slot.ts'

/** The supervisor is done sooner, whatever discovery does; this is for one that hangs. */
const WITHDRAW_MS = 4_000

export interface LauncherOptions {
  readonly program: (child: ChildName) => Program
  /** How many workers. Default 1. */
  readonly workers?: number
  /** Addresses that all workers share: bound here, so that a worker's end refuses nobody. Default none. */
  readonly listen?: readonly SharedAddress[]
  /** How long workers may take to end once they are told to, their connections' time to finish included, milliseconds. */
  readonly drainMs: number
  /** How long a supervisor may take to end, and a worker beyond its drain deadline, milliseconds. Default 2,000. */
  readonly graceMs?: number
  /** How long a process may take to serve when it replaces another, milliseconds. Default 30,000. */
  readonly readyMs?: number
  /** One line of the log; default JSON on standard output. */
  readonly log?: (fields: LauncherEntry) => void
}

/**
 * PID 1 of a gateway or sidecar: starts a supervisor and workers as siblings, starts again what dies, replaces them one at a time
 * when it is told to (SIGHUP: the supervisor, then each worker beside its successor), and ends them in order: the workers first,
 * which drain once those know who call this gateway from elsewhere, the supervisor last, so that health and metrics answer until the end.
 *
 * It imports next to nothing, so that there is next to nothing in it to fail. Resolves with the exit code: 0 after an orderly
 * stop (SIGTERM or SIGINT; a second one means now), 64 when a child finds the configuration wrong, 1 when a child had to be
 * killed.
 */
export function launch(options: LauncherOptions): Promise<number> {
  return new Promise((resolve) => new Launcher(options, resolve).start())
}

/** What is to be replaced: everything, all workers, or that of one slot. */
type Outdated = 'all' | 'workers' | number

class Launcher {
  readonly #log: (fields: LauncherEntry) => void
  readonly #drainMs: number
  readonly #graceMs: number
  readonly #readyMs: number
  readonly #finish: (code: number) => void
  readonly #sockets: SharedSockets
  readonly #supervisor: Slot
  readonly #workers: readonly Slot[]
  /** Slots whose worker drains without being told by us. */
  readonly #draining = new Set<number>()
  #withdrawing = false
  #onWithdrawn: () => void = () => {}
  readonly #reports: DrainReport[] = []
  /** One at a time, in this order. */
  readonly #outdated = new Set<Outdated>()
  #replacing: Outdated | undefined
  #stopping = false

  constructor(options: LauncherOptions, finish: (code: number) => void) {
    const { log = printEntry, program, workers = 1 } = options
    this.#log = log
    this.#drainMs = options.drainMs
    this.#graceMs = options.graceMs ?? 2_000
    this.#readyMs = options.readyMs ?? 30_000
    this.#finish = finish
    this.#sockets = new SharedSockets({
      addresses: options.listen ?? [],
      log,
      onBound: () => this.#replace('workers', 'an address could be bound'),
    })
    const common = { log, onUsage: () => void this.#stop(0, EXIT_USAGE) }
    this.#supervisor = new Slot({
      ...common,
      name: 'supervisor',
      slot: 0,
      program: program('supervisor'),
      inherit: () => ({ env: {}, descriptors: [] }),
      onNotice: ({ notice }) => {
        if (notice === 'replace') this.#replace('all', 'asked for at the admin port')
        if (notice === 'withdrawn') this.#onWithdrawn()
      },
    })
    const ofWorker = { ...common, name: 'worker', program: program('worker') } as const
    const inherit = () => this.#sockets.inheritance()
    const slots = Array.from({ length: workers }, (_, slot) => slot)
    this.#workers = slots.map(
      (slot) => new Slot({ ...ofWorker, slot, inherit, onNotice: (notice) => this.#noticed(slot, notice) }),
    )
  }

  start(): void {
    process.on('SIGTERM', this.#onSignal).on('SIGINT', this.#onSignal).on('SIGHUP', this.#onHangUp)
    this.#sockets.open()
    this.#supervisor.start()
    for (const worker of this.#workers) worker.start()
  }

  readonly #onHangUp = (): void => this.#replace('all', 'SIGHUP')

  readonly #onSignal = (signal: NodeJS.Signals): void => {
    if (!this.#stopping && !this.#withdrawing) {
      this.#withdrawing = true
      this.#log({ level: 'info', msg: 'draining', signal, drainMs: this.#drainMs })
      void this.#withdraw().then(() => this.#stop(this.#drainMs, 0))
      return
    }
    this.#stopping = true
    this.#onWithdrawn()
    this.#log({ level: 'warn', msg: 'second signal: ending now', signal })
    for (const slot of [...this.#workers, this.#supervisor]) slot.kill()
    this.#end(signal === 'SIGINT' ? 130 : 143)
  }

  /** The supervisor has those told who call us from elsewhere, before any worker stops: see Supervisor.withdraw. */
  #withdraw(): Promise<void> {
    return new Promise((resolve) => {
      if (!this.#supervisor.signal('SIGUSR2')) return resolve()
      const timer = setTimeout(resolve, WITHDRAW_MS)
      this.#onWithdrawn = () => {
        clearTimeout(timer)
        resolve()
      }
    })
  }

  #noticed(slot: number, notice: ChildNotice): void {
    switch (notice.notice) {
      case 'replace':
        this.#replace(slot, 'the worker cannot have its address again')
        return
      case 'draining':
        this.#drainsByItself(slot)
        return
      case 'drained':
        this.#reports.push(notice.report as DrainReport)
        return
      case 'listening':
        this.#sockets.listening(notice.address ?? '')
        return
      default:
        if (this.#stopping) return
        // A listener may have gone from the configuration of all of them.
        this.#sockets.renew((address) => this.#workers.every((worker) => worker.listensOn(address) === false))
    }
  }

  /** The operator drains this pod through its admin port: what ends from here on has no successor. */
  #drainsByItself(slot: number): void {
    this.#draining.add(slot)
    this.#workers[slot]?.letGo()
    if (this.#draining.size === this.#workers.length) this.#sockets.close()
  }

  #replace(what: Outdated, why: string): void {
    // A worker asks again until its successor is there.
    if (this.#stopping || this.#draining.size > 0 || (typeof what === 'number' && this.#replacing === what))
      return
    this.#log({
      level: 'info',
      msg: 'replacing',
      what: typeof what === 'number' ? `worker ${what}` : what,
      why,
    })
    this.#outdated.add(what)
    if (this.#replacing === undefined) void this.#replaceOutdated()
  }

  async #replaceOutdated(): Promise<void> {
    for (const what of this.#outdated) {
      this.#outdated.delete(what)
      this.#replacing = what
      const serves = await this.#replaceNow(what)
      if (this.#stopping) break
      if (serves) this.#log({ level: 'info', msg: 'all replaced' })
      else this.#log({ level: 'warn', msg: 'replacement given up: what there was before goes on' })
    }
    this.#replacing = undefined
  }

  /** In turn, so that the others serve meanwhile; false at the first that does not serve, so that the rest stays as it is. */
  async #replaceNow(what: Outdated): Promise<boolean> {
    if (what === 'all' && !(await this.#supervisor.restart(this.#readyMs, this.#graceMs))) return false
    for (const [slot, worker] of this.#workers.entries()) {
      if (typeof what === 'number' && slot !== what) continue
      if (!(await worker.replace(this.#readyMs, this.#drainMs + this.#graceMs))) return false
    }
    return true
  }

  async #stop(drainMs: number, code: number): Promise<void> {
    if (this.#stopping) return
    this.#stopping = true
    // From here on the workers alone hold the sockets: they are refused once the last worker lets go.
    this.#sockets.close()
    const drained = await Promise.all(this.#workers.map((worker) => worker.stop(drainMs + this.#graceMs)))
    const ended = await this.#supervisor.stop(this.#graceMs)
    this.#end(code === 0 && !(ended && drained.every((byItself) => byItself)) ? 1 : code)
  }

  #end(code: number): void {
    process.off('SIGTERM', this.#onSignal).off('SIGINT', this.#onSignal).off('SIGHUP', this.#onHangUp)
    this.#sockets.close()
    this.#log({
      level: 'info',
      msg: 'stopped',
      code,
      ...(this.#reports.length > 0 && sumReports(this.#reports)),
    })
    this.#finish(code)
  }
}
