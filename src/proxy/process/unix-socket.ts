import { rmSync } from 'node:fs'
import { createConnection } from 'node:net'

/** `sun_path` of unix(7) holds 108 bytes with its final zero. */
const MAX_PATH = 107

/** Why a path cannot be a unix socket's; undefined when it can. */
export function socketPathError(path: string): string | undefined {
  const length = Buffer.byteLength(path)
  return length > MAX_PATH ? `${path} is ${length} bytes long; a unix socket may have ${MAX_PATH}` : undefined
}

/**
 * Makes a path free for listening: a socket file that a dead process left behind is removed. Rejects when somebody still
 * answers there.
 */
export function freeSocketPath(path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const probe = createConnection(path)
    probe.once('connect', () => {
      probe.destroy()
      reject(new Error(`${path} is in use by another process`))
    })
    probe.once('error', () => {
      rmSync(path, { force: true })
      resolve()
    })
  })
}
