import { Backoff } from '../../lib/backoff.ts'
import { Child, type ChildNotice, type Program } from './child.ts'
import type { LauncherEntry } from './launcher-log.ts'

/** Bad usage or configuration, as in sysexits.h: starting again would not help. */
export const EXIT_USAGE = 64
/** A child that has lived this long is healthy: its next death is a new incident, without the delay of the last. */
const STABLE_MS = 10_000

export type ChildName = 'supervisor' | 'worker'

/** What a process gets from its launcher. */
export interface Inheritance {
  readonly env: Readonly<Record<string, string>>
  readonly descriptors: readonly number[]
}

export interface SlotOptions {
  readonly name: ChildName
  readonly slot: number
  readonly program: Program
  /** Of each new process. */
  readonly inherit: () => Inheritance
  readonly log: (entry: LauncherEntry) => void
  readonly onUsage: () => void
  /** Of the process in the slot, or of one that leaves it (`drained` alone). */
  readonly onNotice: (notice: ChildNotice) => void
}

/** A place for one process, and for a successor beside it: what dies is started again, until `stop` or `letGo`. */
export class Slot {
  readonly #options: SlotOptions
  readonly #backoff = new Backoff({ baseMs: 100, maxMs: 5_000 })
  #current: Child | undefined
  /** Starts beside the present one, and takes its place once it serves. */
  #successor: Child | undefined
  /** Those that were asked to end. */
  readonly #leaving = new Map<Child, Promise<boolean>>()
  /** Wait for the newest process to serve, or to end. */
  readonly #waiting = new Set<(serves: boolean) => void>()
  #generation = 0
  #restart: NodeJS.Timeout | undefined
  #ending = false

  constructor(options: SlotOptions) {
    this.#options = options
  }

  start(): void {
    this.#cancelRestart()
    this.#current = this.#spawn()
  }

  /** Whether its process listens on an address that it inherited; undefined when it is not known yet. */
  listensOn(address: string): boolean | undefined {
    return this.#current?.served === true ? this.#current.listening.has(address) : undefined
  }

  /** A signal to the present process; false when there is none that serves. */
  signal(signal: NodeJS.Signals): boolean {
    if (this.#current?.served !== true) return false
    this.#current.signal(signal)
    return true
  }

  /**
   * Starts a successor beside the present process, and once it serves asks the present one to leave, for which it has `leaveMs`.
   * False when the successor does not serve within `readyMs`, or ends before: then the present one stays.
   */
  async replace(readyMs: number, leaveMs: number): Promise<boolean> {
    if (this.#ending || this.#successor !== undefined) return false
    if (this.#current === undefined) {
      this.start()
      return this.#serves(readyMs)
    }
    const successor = this.#spawn()
    this.#successor = successor
    const serves = await this.#serves(readyMs)
    if (this.#successor !== successor) return serves
    this.#successor = undefined
    const before = this.#current
    if (!serves && before !== undefined) {
      this.#log('warn', 'the replacement does not serve, ending it', successor)
      this.#leave(successor, 'SIGKILL', 0)
      return false
    }
    this.#current = successor
    if (before !== undefined) {
      this.#log('info', 'replaced', successor, { predecessor: before.pid })
      this.#leave(before, 'SIGUSR2', leaveMs)
    }
    return serves
  }

  /** Ends the present process and starts another in its place; true once that one serves. */
  async restart(readyMs: number, leaveMs: number): Promise<boolean> {
    if (this.#ending) return false
    this.#cancelRestart()
    const before = this.#current
    if (before !== undefined) await this.#leave(before, 'SIGTERM', leaveMs)
    if (this.#ending) return false
    this.start()
    return this.#serves(readyMs)
  }

  /** SIGTERM to all that there is, then SIGKILL after `ms`; nothing is started any more. True when all ended by themselves. */
  async stop(ms: number): Promise<boolean> {
    this.letGo()
    // One that was asked before has its own deadline, but a drain of the whole is not longer for it.
    for (const child of this.#leaving.keys()) child.signal('SIGTERM')
    const ended = [...this.#leaving.values()]
    for (const child of [this.#current, this.#successor])
      if (child !== undefined) ended.push(this.#leave(child, 'SIGTERM', ms))
    for (const done of [...this.#waiting]) done(false)
    return (await Promise.all(ended)).every((byItself) => byItself)
  }

  /** What ends now is not started again. */
  letGo(): void {
    this.#ending = true
    this.#cancelRestart()
  }

  kill(): void {
    this.letGo()
    for (const child of [this.#current, this.#successor, ...this.#leaving.keys()]) child?.signal('SIGKILL')
  }

  #spawn(): Child {
    const { slot, program, inherit } = this.#options
    const generation = ++this.#generation
    const { env, descriptors } = inherit()
    const child = new Child({
      program,
      descriptors,
      env: { ...env, ISTHMUS_SLOT: String(slot), ISTHMUS_GENERATION: String(generation) },
      onNotice: (from, notice) => this.#noticed(from, notice),
      onEnd: (ended, how, code) => this.#ended(ended, how, code),
    })
    if (child.pid !== undefined) this.#log('info', 'started', child, { generation, program: program.file })
    return child
  }

  #serves(ms: number): Promise<boolean> {
    return new Promise((resolve) => {
      const done = (serves: boolean) => {
        clearTimeout(timer)
        this.#waiting.delete(done)
        resolve(serves)
      }
      const timer = setTimeout(done, ms, false)
      this.#waiting.add(done)
    })
  }

  #noticed(child: Child, notice: ChildNotice): void {
    const { address = '' } = notice
    if (notice.notice === 'listening') child.listening.add(address)
    if (notice.notice === 'released') child.listening.delete(address)
    if (notice.notice === 'serving') child.served = true
    if (this.#leaving.has(child) ? notice.notice === 'drained' : child === this.#current)
      this.#options.onNotice(notice)
    if (notice.notice === 'serving' && child === (this.#successor ?? this.#current))
      for (const done of [...this.#waiting]) done(true)
  }

  #leave(child: Child, signal: NodeJS.Signals, ms: number): Promise<boolean> {
    if (this.#current === child) this.#current = undefined
    if (this.#successor === child) this.#successor = undefined
    const gone = child.stop(signal, ms).then((byItself) => {
      this.#leaving.delete(child)
      if (byItself || signal === 'SIGKILL') return true
      this.#log('warn', 'killed: did not end in time', child)
      return false
    })
    this.#leaving.set(child, gone)
    return gone
  }

  #ended(child: Child, how: Readonly<Record<string, unknown>>, code: number | null): void {
    const awaited = child === (this.#successor ?? this.#current)
    if (this.#current === child) this.#current = undefined
    if (this.#successor === child) this.#successor = undefined
    if (this.#leaving.has(child) || this.#ending) this.#log('info', 'ended', child, how)
    else if (code === EXIT_USAGE && this.#current === undefined) this.#options.onUsage()
    else this.#died(child, how)
    if (awaited) for (const done of [...this.#waiting]) done(false)
  }

  #died(child: Child, how: Readonly<Record<string, unknown>>): void {
    const { livedMs } = child
    if (this.#current !== undefined || this.#successor !== undefined) {
      // A successor that is under way has the place once it serves; a present one keeps it when its successor dies.
      this.#log('warn', 'died beside another', child, { ...how, livedMs })
      return
    }
    if (livedMs >= STABLE_MS) this.#backoff.reset()
    const delayMs = Math.round(this.#backoff.next())
    this.#log('warn', 'died, starting another', child, { ...how, livedMs, delayMs })
    this.#restart = setTimeout(() => this.start(), delayMs)
  }

  #cancelRestart(): void {
    clearTimeout(this.#restart)
    this.#restart = undefined
  }

  #log(
    level: 'info' | 'warn',
    msg: string,
    child: Child,
    fields: Readonly<Record<string, unknown>> = {},
  ): void {
    const { name, slot, log } = this.#options
    log({ level, msg, child: name, ...(name === 'worker' && { slot }), pid: child.pid, ...fields })
  }
}
