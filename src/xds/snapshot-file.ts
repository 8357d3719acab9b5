import { createHash } from 'node:crypto'
import { closeSync, fsyncSync, openSync, readFileSync, renameSync, rmSync, writeSync } from 'node:fs'
import { join } from 'node:path'
import { type Clock, systemClock } from '../lib/clock.ts'
import { fail, ok, type Problem, problem, type Result } from '../lib/result.ts'
import type { Snapshot, XdsResource } from './types.ts'

/** 2: the checksum is of the header too. 3: the bodies stand as they are behind an index. */
const FORMAT = 3
const DAY_MS = 24 * 3_600_000
const PRIVATE = 0o600

export interface SnapshotFileOptions {
  /** The run folder: `snapshot` and `snapshot.previous` live there. */
  readonly directory: string
  /** Whose configuration it is; that of another is not taken. */
  readonly owner: string
  /** Older ones are not taken, milliseconds. Default 24 hours. */
  readonly maxAgeMs?: number
  readonly clock?: Clock
}

/** What was found on disk. */
export interface LoadedSnapshot {
  readonly snapshot: Snapshot
  /** When discovery last confirmed it, milliseconds since the epoch. */
  readonly savedAtMs: number
  readonly file: string
}

interface Header {
  readonly format: number
  readonly owner: string
  readonly savedAtMs: number
  /** Of the body, bytes. */
  readonly length: number
}

/**
 * The last good configuration on disk, for a start without a discovery server. A header line (JSON, and the SHA-256 of itself
 * and the body) stands before the body; files are written whole, then renamed, and the one before is kept. No private key belongs
 * in here: the caller leaves credentials out.
 *
 * Its age is bounded, for what it allows may have been taken back since: a date that cannot be trusted, being later than now by more
 * than that bound, is refused as well.
 */
export class SnapshotFile {
  readonly #directory: string
  readonly #path: string
  readonly #previous: string
  readonly #owner: string
  readonly #maxAgeMs: number
  readonly #clock: Clock
  /** SHA-256 of the body in `snapshot`; empty when unknown. */
  #saved = ''

  constructor(options: SnapshotFileOptions) {
    this.#directory = options.directory
    this.#path = join(options.directory, 'snapshot')
    this.#previous = join(options.directory, 'snapshot.previous')
    this.#owner = options.owner
    this.#maxAgeMs = options.maxAgeMs ?? DAY_MS
    this.#clock = options.clock ?? systemClock
  }

  /** The newest that is whole, ours and young enough; every one passed over is in `problems`. Files that are not there are no problem. */
  load(): { readonly loaded: LoadedSnapshot | undefined; readonly problems: readonly Problem[] } {
    const problems: Problem[] = []
    for (const file of [this.#path, this.#previous]) {
      const read = this.#read(file)
      if (read === undefined) continue
      if (read.ok) return { loaded: read.value, problems }
      problems.push(read.error)
    }
    return { loaded: undefined, problems }
  }

  /**
   * Saves it as of now. The same content again only renews its date (the file before stays the one before). Throws what the
   * operating system throws; the files are then as they were.
   */
  save(snapshot: Snapshot): void {
    const body = encode(snapshot)
    const header: Header = {
      format: FORMAT,
      owner: this.#owner,
      savedAtMs: this.#clock.now(),
      length: body.length,
    }
    const content = digest(body)
    const line = JSON.stringify({ ...header, sha256: checksum(header, content) })
    const temporary = `${this.#path}.new`
    writeDurably(temporary, Buffer.concat([Buffer.from(`${line}\n`), body]))
    if (content !== this.#saved) renameIfThere(this.#path, this.#previous)
    renameSync(temporary, this.#path)
    syncDirectory(this.#directory)
    this.#saved = content
  }

  #read(file: string): Result<LoadedSnapshot, Problem> | undefined {
    let bytes: Buffer
    try {
      bytes = readFileSync(file)
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException
      return code === 'ENOENT' ? undefined : fail(problem(file, '', message))
    }
    const checked = this.#check(file, bytes)
    if (!checked.ok) return checked
    const { header, body, content } = checked.value
    try {
      const snapshot = decode(body)
      if (file === this.#path) this.#saved = content
      return ok({ snapshot, savedAtMs: header.savedAtMs, file })
    } catch (error) {
      return fail(problem(file, 'body', error instanceof Error ? error.message : String(error)))
    }
  }

  #check(file: string, bytes: Buffer): Result<{ header: Header; body: Buffer; content: string }, Problem> {
    const bad = (field: string, message: string) => fail(problem(file, field, message))
    const end = bytes.indexOf('\n')
    const parsed = end === -1 ? undefined : parseHeader(bytes.toString('utf8', 0, end))
    if (parsed === undefined) return bad('', 'is no snapshot: its header cannot be read')
    const { header, sha256 } = parsed
    if (header.format !== FORMAT) return bad('format', `is ${header.format}, expected ${FORMAT}`)
    const body = bytes.subarray(end + 1)
    if (body.length !== header.length)
      return bad('length', `is ${body.length} bytes, expected ${header.length}`)
    const content = digest(body)
    if (sha256 !== checksum(header, content))
      return bad('sha256', 'does not fit the content: the file is damaged')
    if (header.owner !== this.#owner) return bad('owner', `is ${header.owner}, expected ${this.#owner}`)
    const ageMs = this.#clock.now() - header.savedAtMs
    if (ageMs > this.#maxAgeMs) {
      return bad(
        'savedAtMs',
        `is ${Math.round(ageMs / 60_000)} minutes ago, more than ${Math.round(this.#maxAgeMs / 60_000)}`,
      )
    }
    if (-ageMs > this.#maxAgeMs) return bad('savedAtMs', 'is in the future: its age cannot be known')
    return ok({ header, body, content })
  }
}

const digest = (body: Buffer): string => createHash('sha256').update(body).digest('hex')

/** `content`: SHA-256 of the body, which is read once for both. */
function checksum({ format, owner, savedAtMs, length }: Header, content: string): string {
  const header = JSON.stringify({ format, owner, savedAtMs, length })
  return createHash('sha256').update(header).update('\n').update(content).digest('hex')
}

/** By type URL, in the order of the bodies that stand behind a line with this. `anyTypeUrl` is left out where it is the type URL. */
type Index = Record<string, [name: string, version: string, length: number, anyTypeUrl?: string][]>

function encode(snapshot: Snapshot): Buffer {
  const index: Index = {}
  const bodies: Uint8Array[] = []
  for (const [typeUrl, resources] of snapshot) {
    index[typeUrl] = [...resources.values()].map(({ name, version, anyTypeUrl, body }) => {
      bodies.push(body)
      return anyTypeUrl === typeUrl ? [name, version, body.length] : [name, version, body.length, anyTypeUrl]
    })
  }
  return Buffer.concat([Buffer.from(`${JSON.stringify(index)}\n`), ...bodies])
}

/** The checksum has vouched for the bytes: what is wrong here is a bug of the writer, and throws. */
function decode(bytes: Buffer): Snapshot {
  const end = bytes.indexOf('\n')
  let at = end + 1
  const snapshot = new Map<string, ReadonlyMap<string, XdsResource>>()
  for (const [typeUrl, resources] of Object.entries(JSON.parse(bytes.toString('utf8', 0, end)) as Index)) {
    const all = resources.map(([name, version, length, anyTypeUrl = typeUrl]): [string, XdsResource] => {
      // A copy: one small resource that lives long must not keep the whole file.
      const body = new Uint8Array(bytes.subarray(at, at + length))
      if (body.length !== length) throw new Error(`${name} is cut short`)
      at += length
      return [name, { name, version, anyTypeUrl, body }]
    })
    snapshot.set(typeUrl, new Map(all))
  }
  return snapshot
}

function parseHeader(text: string): { header: Header; sha256: string } | undefined {
  try {
    const { format, owner, savedAtMs, length, sha256 } = JSON.parse(text) as Partial<
      Header & { sha256: string }
    >
    const whole =
      typeof format === 'number' &&
      typeof owner === 'string' &&
      typeof savedAtMs === 'number' &&
      typeof length === 'number' &&
      typeof sha256 === 'string'
    return whole ? { header: { format, owner, savedAtMs, length }, sha256 } : undefined
  } catch {
    return undefined
  }
}

function writeDurably(path: string, bytes: Buffer): void {
  const file = openSync(path, 'w', PRIVATE)
  try {
    for (let at = 0; at < bytes.length; ) at += writeSync(file, bytes, at)
    fsyncSync(file)
  } catch (error) {
    // Half a file is of no use, and on a full disk it is in the way.
    rmSync(path, { force: true })
    throw error
  } finally {
    closeSync(file)
  }
}

/** The renames are on disk as well: what is loaded after a power cut is the newest, or the one before. */
function syncDirectory(path: string): void {
  const directory = openSync(path, 'r')
  try {
    fsyncSync(directory)
  } finally {
    closeSync(directory)
  }
}

function renameIfThere(from: string, to: string): void {
  try {
    renameSync(from, to)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
  }
}
