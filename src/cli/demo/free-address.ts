import { createSocket } from 'node:dgram'
import { createServer, type Server } from 'node:net'

/** Whether something can listen there: TCP, and UDP too where asked. */
async function canListen(host: string, port: number, udp = false): Promise<boolean> {
  const server = await tryListen(host, port)
  if (server === undefined) return false
  await new Promise((resolve) => server.close(resolve))
  return !udp || canBind(host, port)
}

/** The preferred port when it is free, else the next one that is, upwards. Throws when 200 in a row are taken. */
export async function freePort(host: string, preferred: number, udp = false): Promise<number> {
  for (let port = preferred; port < preferred + 200; port++) if (await canListen(host, port, udp)) return port
  throw new Error(`no free port on ${host} from ${preferred} to ${preferred + 199}`)
}

export interface LoopbackRange {
  /** `127.X`. */
  readonly prefix: string
  /** Gives the range back. */
  release(): void
}

/**
 * A 127.X.0.0/16 of our own. A listening socket on a port of its first address is the lock: every demo takes it, and the
 * kernel frees it however the demo ends.
 */
export async function claimLoopbackRange(
  wanted?: string,
  random: () => number = Math.random,
): Promise<LoopbackRange> {
  if (wanted !== undefined) {
    const lock = await tryListen(`${wanted}.0.1`, LOCK_PORT)
    if (lock === undefined)
      throw new Error(`${wanted}.0.0/16 is taken: something listens on ${wanted}.0.1:${LOCK_PORT}`)
    lock.unref()
    return { prefix: wanted, release: () => lock.close() }
  }
  const first = Math.floor(random() * RANGES)
  for (let i = 0; i < RANGES; i++) {
    const prefix = `127.${FIRST_RANGE + ((first + i) % RANGES)}`
    const lock = await tryListen(`${prefix}.0.1`, LOCK_PORT)
    if (lock === undefined) continue
    lock.unref()
    return { prefix, release: () => lock.close() }
  }
  throw new Error(
    `port ${LOCK_PORT} is taken on every loopback range: too many demos at once, or something listens on 0.0.0.0:${LOCK_PORT}`,
  )
}

/** 127.0 is everyone's, 127.240 is the sidecar's default; between them is room. */
const FIRST_RANGE = 16
const RANGES = 200
const LOCK_PORT = 15_999

function tryListen(host: string, port: number): Promise<Server | undefined> {
  return new Promise((resolve) => {
    const server = createServer((socket) => socket.destroy())
    server.once('error', () => resolve(undefined))
    server.listen({ host, port, exclusive: true }, () => resolve(server))
  })
}

function canBind(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createSocket('udp4')
    socket.once('error', () => resolve(false))
    socket.bind({ address: host, port, exclusive: true }, () => socket.close(() => resolve(true)))
  })
}
