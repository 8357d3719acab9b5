import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { Worker } from 'node:worker_threads'

/** Listens and then blocks its own event loop, so that nobody accepts; it goes with the process. */
const SERVER = `
  const { parentPort, workerData } = require('node:worker_threads')
  const server = require('node:net').createServer()
  server.listen({ host: '127.0.0.1', port: 0, backlog: 1 }, () => {
    parentPort.postMessage(server.address().port)
    Atomics.wait(workerData, 0, 0)
  })
`

/**
 * An address that a connect hangs at, without a route that leads nowhere or a firewall: the queue of a server that never accepts is
 * full, and the kernel drops what comes.
 */
export class Blackhole {
  readonly port: number
  readonly #server: Worker
  readonly #blocked: Int32Array
  readonly #fillers: readonly Socket[]

  private constructor(port: number, server: Worker, blocked: Int32Array, fillers: readonly Socket[]) {
    this.port = port
    this.#server = server
    this.#blocked = blocked
    this.#fillers = fillers
  }

  static async open(): Promise<Blackhole> {
    const blocked = new Int32Array(new SharedArrayBuffer(4))
    const server = new Worker(SERVER, { eval: true, workerData: blocked })
    const [port] = (await once(server, 'message')) as [number]
    const fillers: Socket[] = []
    // A backlog of 1 holds two.
    for (let i = 0; i < 2; i += 1) {
      const filler = connect({ host: '127.0.0.1', port })
      filler.on('error', () => {})
      fillers.push(filler)
      await once(filler, 'connect')
    }
    return new Blackhole(port, server, blocked, fillers)
  }

  async close(): Promise<void> {
    for (const filler of this.#fillers) filler.destroy()
    Atomics.store(this.#blocked, 0, 1)
    Atomics.notify(this.#blocked, 0)
    await this.#server.terminate()
  }
}
