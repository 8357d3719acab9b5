import { join } from 'node:path'

export interface StoreFolders {
  /** Where objects that no file defines yet are written, by controllers. */
  readonly generated: string
  readonly status: string
}

/**
 * Where a store over these folders keeps what it writes. Without `generated` both are hidden in the first folder, so that
 * whoever is given the same folder (discovery, `isthmus get`) finds them.
 */
export function storeFolders(directories: readonly string[], generated?: string): StoreFolders {
  if (generated !== undefined) return { generated, status: join(generated, '.status') }
  const hidden = join(directories[0] ?? '.', '.isthmus')
  return { generated: join(hidden, 'generated'), status: join(hidden, 'status') }
}
