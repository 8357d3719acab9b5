import { type FSWatcher, watch } from 'node:fs'
import { realpath, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { Clock } from '../lib/clock.ts'

/** Files are written one after the other: events in quick succession are one change. */
const SETTLE_MS = 50
/** `fs.watch` misses a folder that is itself replaced, and some file systems tell nothing; looking is cheap. */
const POLL_MS = 500

export interface WatchedFolderOptions {
  readonly directory: string
  readonly clock: Clock
  /** Reads the folder; called one at a time, and often without a change. Must not reject. */
  readonly read: () => Promise<void>
}

/** Has a folder read within a second of any change: of a file, of the whole folder, of a mounted Secret's `..data`. */
export class WatchedFolder {
  readonly #options: WatchedFolderOptions
  #watcher: FSWatcher | undefined
  /** Which folder the watcher watches: inode numbers tell a replaced one. */
  #watched = ''
  #cancelPoll: (() => void) | undefined
  #cancelSettle: (() => void) | undefined
  #reading: Promise<void> | undefined
  #again = false
  #started = false

  constructor(options: WatchedFolderOptions) {
    this.#options = options
  }

  /** Reads once, then watches. */
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

  get started(): boolean {
    return this.#started
  }

  #poll(): void {
    if (!this.#started) return
    this.#cancelPoll = this.#options.clock.after(POLL_MS, () => {
      void this.#watch()
        .then(() => this.#read())
        .then(() => this.#poll())
    })
  }

  /** Watches the folder that is there now, if that is another than before. */
  async #watch(): Promise<void> {
    const { directory } = this.#options
    const found = await stat(directory).catch(() => undefined)
    const identity = found === undefined ? '' : `${found.dev}:${found.ino}`
    if (!this.#started || identity === this.#watched) return
    this.#watcher?.close()
    this.#watcher = undefined
    this.#watched = identity
    if (found === undefined) return
    try {
      this.#watcher = watch(directory, { persistent: false }, () => this.#settle())
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
    this.#cancelSettle = this.#options.clock.after(SETTLE_MS, () => void this.#read())
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
      await this.#options.read()
    } while (this.#again)
  }
}

/** The folder with the files of one moment: the target of `..data`, where kubelet has mounted them so. */
export async function folderOfMoment(directory: string): Promise<string> {
  return realpath(join(directory, '..data')).catch(() => directory)
}
