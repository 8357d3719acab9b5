import { writeSync } from 'node:fs'
import { Socket } from 'node:net'

/** A descriptor below is one of the standard streams. */
const FIRST_FD = 3

let lifeline: number | undefined

/**
 * A parent that hands us an end of a pair of sockets (ISTHMUS_LIFELINE_FD) wants us to go when it goes: the kernel closes the other
 * end however the parent ends, SIGKILL included. Without it nothing happens. Our own children do not inherit it.
 */
export function holdLifeline(): void {
  const fd = Number(process.env['ISTHMUS_LIFELINE_FD'] ?? '')
  if (!Number.isInteger(fd) || fd < FIRST_FD) return
  delete process.env['ISTHMUS_LIFELINE_FD']
  lifeline = fd
  const pipe = adopt(fd)
  const gone = () => process.exit(0)
  pipe.on('close', gone).on('error', gone).resume()
  pipe.unref()
}

/** Tells the parent something: one line of JSON on the lifeline. A parent that is gone, or that gave us none, is told nothing. */
export function tellParent(notice: object): void {
  if (lifeline === undefined) return
  try {
    writeSync(lifeline, `${JSON.stringify(notice)}\n`)
  } catch {
    // Its end of the pair is closed, and ours says so in a moment.
  }
}

function adopt(fd: number): Socket {
  if (!('bun' in process.versions)) return new Socket({ fd, readable: true, writable: false })
  // Bun takes no notice of a descriptor in the constructor, and of one here as if it were an address. test/process pins it.
  return new Socket().connect({ fd } as unknown as { port: number })
}
