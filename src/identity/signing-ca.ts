import { type Clock, systemClock } from '../lib/clock.ts'
import type { Logger } from '../lib/log.ts'
import { formatProblem, type Problem, problem } from '../lib/result.ts'
import type { Ca } from './ca.ts'
import { loadCa } from './ca-folder.ts'
import { WatchedFolder } from './watched-folder.ts'

export interface SigningCaOptions {
  /** As `isthmus certs init` and `import` leave it. */
  readonly directory: string
  readonly logger: Logger
  /** Default: the system's. */
  readonly clock?: Clock
}

/** An issuing CA with its key, kept in step with its folder; what was good stays in force until something better is there. */
export class SigningCa {
  readonly #options: SigningCaOptions
  readonly #folder: WatchedFolder
  #ca: Ca | undefined
  #problem: Problem | undefined

  constructor(options: SigningCaOptions) {
    this.#options = options
    this.#folder = new WatchedFolder({
      directory: options.directory,
      clock: options.clock ?? systemClock,
      read: () => this.#read(),
    })
  }

  /** Reads the folder once, then watches. Resolves also when it is missing or broken: see `problems`. */
  start(): Promise<void> {
    return this.#folder.start()
  }

  stop(): void {
    this.#folder.stop()
  }

  current(): Ca | undefined {
    return this.#ca
  }

  problems(): readonly Problem[] {
    return this.#problem === undefined ? [] : [this.#problem]
  }

  async #read(): Promise<void> {
    const { directory, logger } = this.#options
    const loaded = await loadCa(directory).catch((error: NodeJS.ErrnoException) => ({
      ok: false as const,
      error: problem(directory, '', `cannot be read (${error.code ?? error.message})`),
    }))
    if (!this.#folder.started) return
    const before = this.#problem
    this.#problem = loaded.ok ? undefined : loaded.error
    if (!loaded.ok) {
      if (before === undefined || formatProblem(before) !== formatProblem(loaded.error))
        logger.error({ problem: formatProblem(loaded.error) }, 'the signing CA cannot be used')
      return
    }
    if (this.#ca?.issuerPem === loaded.value.issuerPem) return
    this.#ca = loaded.value
    const until = new Date(loaded.value.notAfterMs).toISOString()
    if (loaded.value.rootKeyPem !== undefined)
      logger.warn(
        { directory },
        'the root key lies beside the signing key: signing needs it not, keep it elsewhere',
      )
    logger.info({ trustDomain: loaded.value.trustDomain, until }, 'signing CA in force')
  }
}
