import { statSync } from 'node:fs'
import { type Clock, systemClock } from '../../lib/clock.ts'
import type { Logger } from '../../lib/log.ts'
import { formatProblem, type Problem } from '../../lib/result.ts'
import { type BootstrapConfig, readBootstrap } from '../../resources/bootstrap/bootstrap.ts'
import { readTextFile } from '../../resources/bootstrap/context.ts'

/** How often the files are looked at; a change is taken once two looks see the same. */
const POLL_MS = 250

export interface BootstrapFileOptions {
  readonly file: string
  readonly logger: Logger
  readonly clock?: Clock
  /** Called after each change that is good as a whole. */
  readonly onChange: (config: BootstrapConfig) => void
}

/** Reads a bootstrap once; the problems say why there is none. */
export function loadBootstrap(file: string): ReturnType<typeof readBootstrap> {
  const text = readTextFile(file)
  if (text.ok) return readBootstrap(text.value, file, readTextFile)
  return { config: { ok: false, error: [{ object: file, field: '', message: text.error }] }, files: [file] }
}

/**
 * A bootstrap, and every file that it names, kept in step with the disk within a second: the last good state of all of them
 * together stays in force until another is complete. Files are looked at rather than watched: they may be anywhere, and be swapped
 * behind symbolic links.
 */
export class BootstrapFile {
  readonly #options: BootstrapFileOptions
  #current: BootstrapConfig | undefined
  #problems: readonly Problem[] = []
  #files: readonly string[]
  #read = ''
  #seen = ''
  #cancel: (() => void) | undefined

  constructor(options: BootstrapFileOptions) {
    this.#options = options
    this.#files = [options.file]
  }

  /** The last good state; undefined as long as there was none. */
  get current(): BootstrapConfig | undefined {
    return this.#current
  }

  /** Why the files as they are now are not in force; empty when they are. */
  get problems(): readonly Problem[] {
    return this.#problems
  }

  start(): void {
    this.#load()
    this.#poll()
  }

  stop(): void {
    this.#cancel?.()
  }

  #poll(): void {
    this.#cancel = (this.#options.clock ?? systemClock).after(POLL_MS, () => {
      const now = signatureOf(this.#files)
      // Half of it may be written yet: what changed since the last look is given one more.
      if (now !== this.#read && now === this.#seen) this.#load()
      this.#seen = now
      this.#poll()
    })
  }

  #load(): void {
    const { file, logger, onChange } = this.#options
    const { config, files } = loadBootstrap(file)
    this.#files = files
    this.#read = signatureOf(files)
    this.#seen = this.#read
    if (!config.ok) {
      const before = this.#problems.map(formatProblem).join('\n')
      this.#problems = config.error
      if (before === config.error.map(formatProblem).join('\n')) return
      const kept = this.#current === undefined ? 'there is none yet' : 'the last good one stays in force'
      for (const one of config.error)
        logger.warn({ problem: one }, `configuration refused, ${kept}: ${formatProblem(one)}`)
      return
    }
    this.#problems = []
    this.#current = config.value
    logger.info({ file }, 'configuration loaded')
    onChange(config.value)
  }
}

/** Changes when one of the files does, or what a name leads to. */
function signatureOf(files: readonly string[]): string {
  return files
    .map((file) => {
      const stat = statSync(file, { throwIfNoEntry: false })
      return stat === undefined ? '-' : `${stat.dev}:${stat.ino}:${stat.size}:${stat.mtimeMs}:${stat.ctimeMs}`
    })
    .join(' ')
}
