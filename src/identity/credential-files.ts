import { type FSWatcher, watch } from 'node:fs'
import { readFile, realpath, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { contentHash } from '../lib/canonical.ts'
import { type Clock, systemClock } from '../lib/clock.ts'
import type { Logger } from '../lib/log.ts'
import { fail, formatProblem, ok, type Problem, problem, type Result } from '../lib/result.ts'
import { type CaCertificate, openX509, parseCaCertificate } from './ca-certificate.ts'
import { parseCertificate } from './certificate.ts'
import { type Credential, parseCredential } from './credential.ts'
import { parseCertificatesPem } from './pem.ts'
import { TrustBundle } from './trust-bundle.ts'

const NAMES = ['tls.crt', 'tls.key', 'ca.crt'] as const
/** Files are written one after the other: events in quick succession are one change. */
const SETTLE_MS = 50
/** `fs.watch` misses a folder that is itself replaced, and some file systems tell nothing; looking is cheap. */
const POLL_MS = 500

export interface CredentialFilesOptions {
  /** Holds `tls.crt`, `tls.key` and `ca.crt`, as a mounted `kubernetes.io/tls` Secret does. */
  readonly directory: string
  readonly logger: Logger
  /** Default: the system's. */
  readonly clock?: Clock
}

export interface Identity {
  readonly credential: Credential
  /** Our own trust domain's: `ca.crt`, and the intermediates of our own chain. */
  readonly bundle: TrustBundle
}

/**
 * Our own credential, kept in step with its files within a second. Whatever is written there, what was good stays in
 * force until something better is complete: all three files of one moment, the key fits, the bundle vouches for the leaf.
 */
export class CredentialFiles {
  readonly #directory: string
  readonly #logger: Logger
  readonly #clock: Clock
  readonly #listeners = new Set<() => void>()
  #current: Identity | undefined
  #problems: readonly Problem[] = []
  /** Hash of the content last judged, so that an event without a change does nothing. */
  #judged = ''
  #watcher: FSWatcher | undefined
  /** Which folder the watcher watches: inode numbers tell a replaced one. */
  #watched = ''
  #cancelPoll: (() => void) | undefined
  #cancelSettle: (() => void) | undefined
  #reading: Promise<void> | undefined
  #again = false
  #started = false

  constructor(options: CredentialFilesOptions) {
    this.#directory = options.directory
    this.#logger = options.logger
    this.#clock = options.clock ?? systemClock
  }

  /** Reads the files once, then watches. Resolves also when they are missing or broken: see `problems`. */
  async start(): Promise<void> {
    if (this.#started) return
    this.#started = true
    await this.#watch()
    await this.#read()
    this.#poll()
  }

  stop(): void {
    this.#started = false
    this.#watcher?.close()
    this.#watcher = undefined
    this.#watched = ''
    this.#cancelPoll?.()
    this.#cancelSettle?.()
  }

  /** The last good state; undefined as long as there was none. */
  current(): Identity | undefined {
    return this.#current
  }

  /** Called after each change of `current`. Returns the function that ends it. */
  onChange(callback: () => void): () => void {
    this.#listeners.add(callback)
    return () => this.#listeners.delete(callback)
  }

  /** Why the files as they are now are not in force; empty when they are. */
  problems(): readonly Problem[] {
    return this.#problems
  }

  #poll(): void {
    if (!this.#started) return
    this.#cancelPoll = this.#clock.after(POLL_MS, () => {
      void this.#watch()
        .then(() => this.#read())
        .then(() => this.#poll())
    })
  }

  /** Watches the folder that is there now, if that is another than before. */
  async #watch(): Promise<void> {
    const found = await stat(this.#directory).catch(() => undefined)
    const identity = found === undefined ? '' : `${found.dev}:${found.ino}`
    if (!this.#started || identity === this.#watched) return
    this.#watcher?.close()
    this.#watcher = undefined
    this.#watched = identity
    if (found === undefined) return
    try {
      this.#watcher = watch(this.#directory, { persistent: false }, () => this.#settle())
      // The folder may vanish under the watcher; the poll goes on.
      this.#watcher.on('error', () => {
        this.#watched = ''
      })
    } catch {
      // No inotify instance left, or gone between stat and watch: polling alone keeps the promise.
      this.#watched = ''
    }
  }

  #settle(): void {
    this.#cancelSettle?.()
    this.#cancelSettle = this.#clock.after(SETTLE_MS, () => void this.#read())
  }

  /** One reader at a time; a request while it reads makes it read once more. */
  #read(): Promise<void> {
    if (this.#reading !== undefined) {
      this.#again = true
      return this.#reading
    }
    this.#reading = this.#readAll().finally(() => {
      this.#reading = undefined
    })
    return this.#reading
  }

  async #readAll(): Promise<void> {
    do {
      this.#again = false
      const files = await readFiles(this.#directory)
      const content = contentHash(JSON.stringify(files))
      // What was refused is judged again and again: a certificate that is not valid yet becomes so without a change.
      if (!this.#started || (content === this.#judged && this.#problems.length === 0)) continue
      this.#judged = content
      this.#take(files)
    } while (this.#again)
  }

  #take(files: Result<Files, Problem>): void {
    const judged = files.ok ? judge(files.value, this.#directory, this.#clock.now()) : files
    if (!judged.ok) {
      const [known] = this.#problems
      this.#problems = [judged.error]
      if (known !== undefined && formatProblem(known) === formatProblem(judged.error)) return
      const kept =
        this.#current === undefined ? 'there is no credential yet' : 'the last good credential stays in force'
      this.#logger.warn(
        { problem: judged.error },
        `credential files: ${formatProblem(judged.error)}; ${kept}`,
      )
      return
    }
    this.#problems = []
    const { credential } = judged.value
    const known = this.#current
    if (known !== undefined && sameIdentity(known, judged.value)) return
    this.#current = judged.value
    this.#logger.info({ directory: this.#directory, credential }, 'credential loaded')
    for (const listener of [...this.#listeners]) this.#tell(listener)
  }

  /** A listener that throws must not keep the others, or the next change, from being told. */
  #tell(listener: () => void): void {
    try {
      listener()
    } catch (error) {
      this.#logger.error({ err: error }, 'BUG: a listener to credential changes threw')
    }
  }
}

type Files = Readonly<Record<(typeof NAMES)[number], string>>

/** All three files of one moment: of one `..data` target, where kubelet has mounted them so. */
async function readFiles(directory: string): Promise<Result<Files, Problem>> {
  const version = await realpath(join(directory, '..data')).catch(() => directory)
  const texts: string[] = []
  for (const name of NAMES) {
    try {
      texts.push(await readFile(join(version, name), 'utf8'))
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code ?? String(error)
      return fail(problem(directory, name, code === 'ENOENT' ? 'no such file' : `cannot be read (${code})`))
    }
  }
  const [certificate = '', key = '', bundle = ''] = texts
  return ok({ 'tls.crt': certificate, 'tls.key': key, 'ca.crt': bundle })
}

/** Whether the three files are a credential that peers would take now. */
function judge(files: Files, directory: string, nowMs: number): Result<Identity, Problem> {
  const credential = parseCredential(files['tls.crt'], files['tls.key'], directory)
  if (!credential.ok) return credential
  const { id, notBeforeMs, notAfterMs } = credential.value
  if (nowMs > notAfterMs) {
    return fail(
      problem(directory, 'tls.crt', `the certificate expired at ${new Date(notAfterMs).toISOString()}`),
    )
  }
  if (nowMs < notBeforeMs) {
    return fail(
      problem(
        directory,
        'tls.crt',
        `the certificate is not valid before ${new Date(notBeforeMs).toISOString()}`,
      ),
    )
  }
  const roots = TrustBundle.parse(id.trustDomain, files['ca.crt'], `${directory}/ca.crt`)
  if (!roots.ok) return roots
  const chain = parseCertificatesPem(files['tls.crt'])
  const [leafBlock, ...above] = chain.ok ? chain.value : []
  const intermediates: CaCertificate[] = []
  for (const [index, block] of above.entries()) {
    const ca = parseCaCertificate(block)
    if (!ca.ok) return fail(problem(directory, 'tls.crt', `certificate ${index + 2}: ${ca.error}`))
    intermediates.push(ca.value)
  }
  const bundle = roots.value.withIntermediates(intermediates)
  const leaf = parseCertificate(leafBlock?.der ?? new Uint8Array())
  const x509 = openX509(leafBlock?.der ?? new Uint8Array())
  if (!leaf.ok || x509 === undefined) return fail(problem(directory, 'tls.crt', 'cannot be read'))
  const anchor = bundle.anchor(leaf.value, x509, 'server', nowMs)
  if (!anchor.ok) {
    return fail(
      problem(directory, 'ca.crt', `does not vouch for the certificate in tls.crt: ${anchor.error.message}`),
    )
  }
  return ok({ credential: credential.value, bundle })
}

function sameIdentity(a: Identity, b: Identity): boolean {
  return (
    a.credential.certificatePem === b.credential.certificatePem &&
    a.credential.privateKeyPem === b.credential.privateKeyPem &&
    a.bundle.pem === b.bundle.pem
  )
}
