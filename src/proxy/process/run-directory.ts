import { chmodSync, mkdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { fail, ok, type Result } from '../../lib/result.ts'
import { socketPathError } from './unix-socket.ts'

/** The two sockets of a run folder: ADS for the worker, and the control channel. */
export const socketPaths = (runDirectory: string) => ({
  xds: join(runDirectory, 'xds.sock'),
  control: join(runDirectory, 'control.sock'),
})

/**
 * Makes the run folder, for us alone where it is ours to say: a folder that was mounted for us belongs to its mounter, who is
 * root. That of anybody else is refused. The error is one sentence.
 */
export function prepareRunDirectory(path: string): Result<undefined, string> {
  const tooLong = socketPathError(socketPaths(path).control)
  if (tooLong !== undefined) return fail(tooLong)
  try {
    mkdirSync(path, { recursive: true, mode: 0o700 })
    const { uid } = statSync(path)
    const own = process.getuid?.() ?? uid
    // Its owner could put another socket in the place of ours, and so another configuration into the worker.
    if (uid !== own && uid !== 0)
      return fail(`${path} belongs to user ${uid}; expected one of user ${own}, or of root as a mount is`)
    if (uid === own) chmodSync(path, 0o700)
    return ok(undefined)
  } catch (error) {
    return fail(`${path} cannot be made: ${(error as Error).message}`)
  }
}
