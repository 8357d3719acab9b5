import { type FSWatcher, watch } from 'node:fs'

/**
 * Watches a changing set of folders and calls back when something in one of them may have changed. It is the fast path only:
 * inotify sees neither through symbolic links nor on every file system, and its watches are limited; the owner also polls.
 */
export class FolderWatch {
  readonly #onChange: () => void
  readonly #watchers = new Map<string, { readonly watcher: FSWatcher; readonly identity: string }>()

  constructor(onChange: () => void) {
    this.#onChange = onChange
  }

  /** Watches exactly these folders (path → identity): a folder that was replaced by another is watched anew. */
  arm(folders: ReadonlyMap<string, string>): void {
    for (const [path, { identity }] of this.#watchers) if (folders.get(path) !== identity) this.#drop(path)
    for (const [path, identity] of folders) if (!this.#watchers.has(path)) this.#add(path, identity)
  }

  close(): void {
    this.arm(new Map())
  }

  #add(path: string, identity: string): void {
    try {
      const watcher = watch(path, { persistent: false }, (_event, name) => {
        // Temporary and lock files, but not the swap of a ConfigMap's `..data`.
        if (name === null || !name.startsWith('.') || name.startsWith('..data')) this.#onChange()
      })
      watcher.on('error', () => this.#drop(path))
      this.#watchers.set(path, { watcher, identity })
    } catch {
      // Gone since it was looked at, or no watch left to have: the next look tries again.
    }
  }

  #drop(path: string): void {
    this.#watchers.get(path)?.watcher.close()
    this.#watchers.delete(path)
  }
}
