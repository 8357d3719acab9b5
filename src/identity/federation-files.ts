import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { type Clock, systemClock } from '../lib/clock.ts'
import type { Logger } from '../lib/log.ts'
import { fail, formatProblem, ok, type Problem, problem, type Result } from '../lib/result.ts'
import { type Crl, parseCrlsPem } from './crl.ts'
import { parseSpiffeBundle } from './spiffe-bundle.ts'
import { trustDomainError } from './spiffe-id.ts'
import { TrustBundle } from './trust-bundle.ts'
import { folderOfMoment, WatchedFolder } from './watched-folder.ts'

/** What is decided about one trust domain by files here. */
export interface LocalTrust {
  /** Undefined: nobody of it is trusted. Absent: its bundle is not decided here, only CRLs are. */
  readonly bundle?: TrustBundle | undefined
  readonly crls: readonly Crl[]
}

export interface FederationFilesOptions {
  /**
   * Holds `<trust domain>.pem` (roots and issuing intermediates), or `<trust domain>.json` (a SPIFFE bundle document), and perhaps
   * `<trust domain>.crl`. Other names, and those that begin with a dot, are not looked at.
   */
  readonly directory: string
  readonly logger: Logger
  /** Default: the system's. */
  readonly clock?: Clock
}

type Kind = 'pem' | 'json' | 'crl'

interface FileState {
  readonly text: string
  /** The last good content; `null`: the document revokes all. Undefined: there never was a good one. */
  readonly bundle?: TrustBundle | null
  readonly crls?: readonly Crl[]
  readonly sequence?: number | undefined
  readonly problem?: Problem
}

/**
 * The trust domains that this machine decides about by itself, kept in step with a folder. A broken file keeps its last good
 * content and is named; one that was never good trusts nobody, rather than leave the decision to somebody else.
 */
export class FederationFiles {
  readonly #directory: string
  readonly #logger: Logger
  readonly #folder: WatchedFolder
  readonly #listeners = new Set<() => void>()
  readonly #files = new Map<string, FileState>()
  #problems: readonly Problem[] = []
  #current: ReadonlyMap<string, LocalTrust> = new Map()

  constructor(options: FederationFilesOptions) {
    this.#directory = options.directory
    this.#logger = options.logger
    const { directory, clock = systemClock } = options
    this.#folder = new WatchedFolder({ directory, clock, read: () => this.#read() })
  }

  /** Reads once, then watches. Resolves also where the folder is missing: see `problems`. */
  start(): Promise<void> {
    return this.#folder.start()
  }

  stop(): void {
    this.#folder.stop()
  }

  /** By trust domain. The same map as long as nothing changes. */
  current(): ReadonlyMap<string, LocalTrust> {
    return this.#current
  }

  /** Called after each change of `current`. Returns the function that ends it. */
  onChange(callback: () => void): () => void {
    this.#listeners.add(callback)
    return () => this.#listeners.delete(callback)
  }

  problems(): readonly Problem[] {
    return this.#problems
  }

  async #read(): Promise<void> {
    const texts = await readTexts(this.#directory)
    if (!this.#folder.started) return
    if (!texts.ok) {
      this.#report([texts.error])
      return
    }
    let changed = false
    for (const name of this.#files.keys()) {
      if (texts.value.has(name)) continue
      this.#files.delete(name)
      changed = true
    }
    for (const [name, text] of texts.value) {
      const known = this.#files.get(name)
      if (known?.text === text) continue
      this.#files.set(name, take(join(this.#directory, name), name, text, known))
      changed = true
    }
    const twice = [...this.#files.keys()].filter(
      (name) => name.endsWith('.json') && this.#files.has(name.replace(/\.json$/, '.pem')),
    )
    this.#report([
      ...[...this.#files.values()].flatMap((file) => file.problem ?? []),
      ...twice.map((name) =>
        problem(this.#directory, name, 'there is a .pem of the same trust domain, which counts'),
      ),
    ])
    if (!changed) return
    this.#current = combine(this.#files)
    this.#logger.info(
      { directory: this.#directory, trustDomains: [...this.#current.keys()] },
      'federation loaded',
    )
    for (const listener of [...this.#listeners]) {
      try {
        listener()
      } catch (error) {
        this.#logger.error({ err: error }, 'BUG: a listener to federation changes threw')
      }
    }
  }

  #report(problems: readonly Problem[]): void {
    const known = new Set(this.#problems.map(formatProblem))
    this.#problems = problems
    for (const one of problems) {
      const text = formatProblem(one)
      if (!known.has(text)) this.#logger.warn({ problem: one }, `federation: ${text}`)
    }
  }
}

/** The files that concern us, all of one moment. One that cannot be read is as if it were empty, and so broken. */
async function readTexts(directory: string): Promise<Result<ReadonlyMap<string, string>, Problem>> {
  const folder = await folderOfMoment(directory)
  const texts = new Map<string, string>()
  try {
    for (const name of (await readdir(folder)).sort()) {
      if (!/^[^.].*\.(pem|json|crl)$/.test(name)) continue
      texts.set(name, await readFile(join(folder, name), 'utf8').catch(() => ''))
    }
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? String(error)
    return fail(problem(directory, '', code === 'ENOENT' ? 'no such folder' : `cannot be read (${code})`))
  }
  return ok(texts)
}

function split(name: string): { readonly trustDomain: string; readonly kind: Kind } {
  const dot = name.lastIndexOf('.')
  return { trustDomain: name.slice(0, dot), kind: name.slice(dot + 1) as Kind }
}

/** Takes the new text of a file; what is broken leaves the last good content in force. */
function take(object: string, name: string, text: string, known: FileState | undefined): FileState {
  const { trustDomain, kind } = split(name)
  const broken = (message: string): FileState => ({ ...known, text, problem: problem(object, '', message) })
  const wrongName = trustDomainError(trustDomain)
  if (wrongName !== undefined) return broken(`its name is no trust domain: ${wrongName}`)
  if (kind === 'crl') {
    const crls = parseCrlsPem(text)
    return crls.ok ? { text, crls: crls.value } : broken(crls.error)
  }
  if (kind === 'pem') {
    const bundle = TrustBundle.parse(trustDomain, text, object)
    return bundle.ok ? { text, bundle: bundle.value } : { ...known, text, problem: bundle.error }
  }
  const document = parseSpiffeBundle(text)
  if (!document.ok) return broken(document.error)
  const { pem, sequence } = document.value
  if (known?.sequence !== undefined && sequence !== undefined && sequence < known.sequence)
    return broken(`spiffe_sequence: ${sequence} is older than ${known.sequence}, which is in force`)
  if (pem === '') return { text, bundle: null, sequence }
  const bundle = TrustBundle.parse(trustDomain, pem, object)
  return bundle.ok ? { text, bundle: bundle.value, sequence } : { ...known, text, problem: bundle.error }
}

function combine(files: ReadonlyMap<string, FileState>): ReadonlyMap<string, LocalTrust> {
  const local = new Map<string, LocalTrust>()
  // The order of the names: `.crl`, `.json`, `.pem`; so the PEM has the last word.
  for (const [name, file] of [...files].sort(([a], [b]) => (a < b ? -1 : 1))) {
    const { trustDomain, kind } = split(name)
    if (trustDomainError(trustDomain) !== undefined) continue
    const known = local.get(trustDomain) ?? { crls: [] }
    local.set(
      trustDomain,
      kind === 'crl' ? { ...known, crls: file.crls ?? [] } : { ...known, bundle: file.bundle ?? undefined },
    )
  }
  return local
}
