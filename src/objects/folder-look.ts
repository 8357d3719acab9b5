import type { BigIntStats } from 'node:fs'
import { readdir, realpath, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { errorCode } from './atomic-file.ts'

/** Folders nest less deep than this; a symbolic link to a parent would nest forever. */
const DEPTH_MAX = 16

export interface SeenFile {
  /** Changes whenever the content may have changed, however it was replaced. */
  readonly fingerprint: string
  readonly empty: boolean
}

/** What one look at a folder found. */
export interface Look {
  /** By path. */
  readonly files: Map<string, SeenFile>
  /** Every folder below, itself included → what it is on disk (a folder that was replaced has another identity). */
  readonly folders: Map<string, string>
  /** Folders and files that could not be looked at → the operating system's code. What was below them is unknown. */
  readonly unreadable: Map<string, string>
}

export const emptyLook = (): Look => ({ files: new Map(), folders: new Map(), unreadable: new Map() })

/**
 * Finds the `*.yaml`, `*.yml` and `*.json` below a folder. Names that begin with a dot are left out: temporary files of
 * editors, `.git`, our own, and the `..data` of a mounted ConfigMap, whose visible names are links through it.
 */
export async function lookInto(
  folder: string,
  look: Look = emptyLook(),
  above: readonly string[] = [],
): Promise<Look> {
  try {
    const self = await stat(folder, { bigint: true })
    const real = await realpath(folder)
    if (above.includes(real) || above.length >= DEPTH_MAX) return look
    const names = (await readdir(folder)).filter((name) => !name.startsWith('.'))
    look.folders.set(folder, `${self.dev}:${self.ino}`)
    await Promise.all(names.map((name) => lookAt(join(folder, name), look, [...above, real])))
  } catch (error) {
    look.unreadable.set(folder, codeOrThrow(error))
  }
  return look
}

async function lookAt(path: string, look: Look, above: readonly string[]): Promise<void> {
  try {
    const found = await stat(path, { bigint: true })
    if (found.isDirectory()) await lookInto(path, look, above)
    else if (found.isFile() && /\.(ya?ml|json)$/.test(path)) look.files.set(path, seen(found))
  } catch (error) {
    // ENOENT: gone since the folder was listed, or a link whose target is gone.
    if (errorCode(error) !== 'ENOENT') look.unreadable.set(path, codeOrThrow(error))
  }
}

/** One file as it is now; undefined when it is gone. */
export async function lookAtFile(path: string): Promise<SeenFile | undefined> {
  const found = await stat(path, { bigint: true }).catch(() => undefined)
  return found === undefined ? undefined : seen(found)
}

/** The inode and both times are those behind the links: a swapped `..data` shows, too. */
function seen({ dev, ino, size, mtimeNs, ctimeNs }: BigIntStats): SeenFile {
  return { fingerprint: [dev, ino, size, mtimeNs, ctimeNs].join(':'), empty: size === 0n }
}

function codeOrThrow(error: unknown): string {
  const code = errorCode(error)
  if (code === '') throw error
  return code
}
