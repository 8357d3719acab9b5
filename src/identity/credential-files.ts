import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { contentHash } from '../lib/canonical.ts'
import { type Clock, systemClock } from '../lib/clock.ts'
import type { Logger } from '../lib/log.ts'
import { fail, ok, type Problem, problem, type Result } from '../lib/result.ts'
import { type CredentialSource, type Identity, IdentityKeeper, judgeIdentity } from './identity.ts'
import { folderOfMoment, WatchedFolder } from './watched-folder.ts'

const NAMES = ['tls.crt', 'tls.key', 'ca.crt'] as const
/** May be missing: then there is no CRL. */
const CRL = 'ca.crl'

export interface CredentialFilesOptions {
  /** Holds `tls.crt`, `tls.key` and `ca.crt`, as a mounted `kubernetes.io/tls` Secret does, and perhaps `ca.crl`. */
  readonly directory: string
  readonly logger: Logger
  /** Default: the system's. */
  readonly clock?: Clock
}

/**
 * Our own credential, kept in step with its files within a second. Whatever is written there, what was good stays in
 * force until something better is complete: all files of one moment, the key fits, the bundle vouches for the leaf.
 */
export class CredentialFiles implements CredentialSource {
  readonly #directory: string
  readonly #clock: Clock
  readonly #folder: WatchedFolder
  readonly #keeper: IdentityKeeper
  /** Hash of the content last judged, so that an event without a change does nothing. */
  #judged = ''

  constructor(options: CredentialFilesOptions) {
    this.#directory = options.directory
    this.#clock = options.clock ?? systemClock
    this.#keeper = new IdentityKeeper('credential files', options.logger)
    this.#folder = new WatchedFolder({
      directory: options.directory,
      clock: this.#clock,
      read: () => this.#read(),
    })
  }

  /** Reads the files once, then watches. Resolves also when they are missing or broken: see `problems`. */
  start(): Promise<void> {
    return this.#folder.start()
  }

  stop(): void {
    this.#folder.stop()
  }

  current(): Identity | undefined {
    return this.#keeper.current
  }

  onChange(callback: () => void): () => void {
    return this.#keeper.onChange(callback)
  }

  problems(): readonly Problem[] {
    return this.#keeper.problems
  }

  async #read(): Promise<void> {
    const files = await readFiles(this.#directory)
    const content = contentHash(JSON.stringify(files))
    // What was refused is judged again and again: a certificate that is not valid yet becomes so without a change.
    if (!this.#folder.started || (content === this.#judged && this.#keeper.problems.length === 0)) return
    this.#judged = content
    this.#keeper.take(files.ok ? judge(files.value, this.#directory, this.#clock.now()) : files)
  }
}

type Files = Readonly<Record<(typeof NAMES)[number] | typeof CRL, string>>

/** All files of one moment. */
async function readFiles(directory: string): Promise<Result<Files, Problem>> {
  const folder = await folderOfMoment(directory)
  const texts: string[] = []
  for (const name of [...NAMES, CRL]) {
    try {
      texts.push(await readFile(join(folder, name), 'utf8'))
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code ?? String(error)
      if (code === 'ENOENT' && name === CRL) texts.push('')
      else
        return fail(problem(directory, name, code === 'ENOENT' ? 'no such file' : `cannot be read (${code})`))
    }
  }
  const [certificate = '', key = '', bundle = '', crl = ''] = texts
  return ok({ 'tls.crt': certificate, 'tls.key': key, 'ca.crt': bundle, 'ca.crl': crl })
}

function judge(files: Files, directory: string, nowMs: number): Result<Identity, Problem> {
  return judgeIdentity(
    {
      certificate: files['tls.crt'],
      privateKey: files['tls.key'],
      bundle: files['ca.crt'],
      crl: files['ca.crl'],
    },
    { object: directory, certificate: 'tls.crt', privateKey: 'tls.key', bundle: 'ca.crt', crl: 'ca.crl' },
    nowMs,
  )
}
