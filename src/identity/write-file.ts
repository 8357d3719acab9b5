import { randomBytes } from 'node:crypto'
import { mkdir, open, rename, rm } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'

/** For private keys: nobody but the owner. */
export const PRIVATE = 0o600
export const PUBLIC = 0o644

/**
 * Writes a file so that a reader, or a crash, sees the old content or the new one and never a part: a temporary file in the
 * same folder, flushed, then renamed over it. The mode holds from the first byte. Makes the folder if it is missing.
 */
export async function writeFileAtomic(path: string, content: string, mode: number): Promise<void> {
  const folder = dirname(path)
  await mkdir(folder, { recursive: true })
  const temporary = join(folder, `.${basename(path)}.${randomBytes(6).toString('hex')}`)
  try {
    const file = await open(temporary, 'wx', mode)
    try {
      // The umask may have taken bits away; it never adds any.
      await file.chmod(mode)
      await file.writeFile(content)
      await file.sync()
    } finally {
      await file.close()
    }
    await rename(temporary, path)
  } catch (error) {
    await rm(temporary, { force: true })
    throw error
  }
}
