import { randomBytes } from 'node:crypto'
import { open, readFile, realpath, rename, rm, stat } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'

/** Work under a lock takes milliseconds: whoever holds one for so long was killed. */
const LOCK_STALE_MS = 2_000
const LOCK_WAIT_MAX_MS = 10_000
const LOCK_RETRY_MS = 10

/** Replaces a file in one step, so that no reader sees half of it. The mode of an existing file is kept. */
export async function writeAtomically(path: string, text: string, mode = 0o644): Promise<void> {
  const target = await realpath(path).catch(() => path)
  const before = await stat(target).catch(() => undefined)
  const temporary = hidden(target, `${randomBytes(6).toString('hex')}.tmp`)
  try {
    const file = await open(temporary, 'wx', before === undefined ? mode : before.mode & 0o777)
    try {
      await file.writeFile(text)
    } finally {
      await file.close()
    }
    await rename(temporary, target)
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => undefined)
    throw error
  }
}

/** The text of a file, undefined when there is none. */
export async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return undefined
    throw error
  }
}

/**
 * Runs `work` while no other process runs work on the same file: read, change and write back must not interleave (discovery
 * and `isthmus apply` share folders). Throws what the operating system says when the folder cannot be written.
 */
export async function withFileLock<T>(path: string, work: () => Promise<T>): Promise<T> {
  const lock = hidden(await realpath(path).catch(() => path), 'lock')
  await acquire(lock)
  try {
    return await work()
  } finally {
    await rm(lock, { force: true })
  }
}

async function acquire(lock: string): Promise<void> {
  const deadline = Date.now() + LOCK_WAIT_MAX_MS
  for (;;) {
    try {
      const file = await open(lock, 'wx', 0o600)
      await file.close()
      return
    } catch (error) {
      if (errorCode(error) !== 'EEXIST') throw error
    }
    const held = await stat(lock).catch(() => undefined)
    if (held !== undefined && Date.now() - held.mtimeMs > LOCK_STALE_MS) await rm(lock, { force: true })
    else if (Date.now() > deadline)
      throw Object.assign(new Error(`${lock} is held by another process`), { code: 'EBUSY' })
    else await delay(LOCK_RETRY_MS)
  }
}

/** A hidden file beside `path`: hidden files are not objects. The name stays within what file systems allow. */
function hidden(path: string, suffix: string): string {
  return join(dirname(path), `.${basename(path).slice(0, 200)}.${suffix}`)
}

/** `ENOENT`, `EACCES`, …; '' for what is not the operating system's. */
export function errorCode(error: unknown): string {
  const { code } = (error ?? {}) as { code?: unknown }
  return typeof code === 'string' ? code : ''
}
