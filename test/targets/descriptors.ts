import { readdirSync, readlinkSync } from 'node:fs'

/** Sockets that a process holds open: a leak is one that nobody asked for. */
export function socketsOf(pid: number): number {
  const folder = `/proc/${pid}/fd`
  return readdirSync(folder).filter((fd) => {
    try {
      return readlinkSync(`${folder}/${fd}`).startsWith('socket:')
    } catch {
      // Closed meanwhile.
      return false
    }
  }).length
}

/** Asks until a process holds no more than `limit`, for as long as a lingering close may take and as much again; what it holds then. */
export async function settledSockets(pid: number, limit: number): Promise<number> {
  const begun = Date.now()
  while (socketsOf(pid) > limit && Date.now() - begun < 10_000)
    await new Promise((resolve) => setTimeout(resolve, 20))
  return socketsOf(pid)
}
