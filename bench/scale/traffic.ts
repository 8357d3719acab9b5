// Both ends of the traffic, a process of its own: a backend that answers with the address it was called at, and clients that ask all the
// while, on connections that they keep and on new ones. Told by message what to do.
import { once } from 'node:events'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { connect, createSecureContext, type SecureContext, type TLSSocket } from 'node:tls'

/** Who the clients are, and whom they call. */
export interface Callers {
  readonly certificatePem: string
  readonly privateKeyPem: string
  readonly caPem: string
  readonly port: number
}

export type Order =
  /** Traffic to these services until `stop`. */
  | { readonly do: 'start'; readonly callers: Callers; readonly serverNames: readonly string[] }
  | { readonly do: 'stop' }
  /** One connection to a service. */
  | { readonly do: 'call'; readonly callers: Callers; readonly serverName: string }

export interface TrafficResult {
  readonly requests: number
  readonly connections: number
  readonly failures: number
  /** Of the first failure. */
  readonly failure: string
  /** Of a request on a kept connection, milliseconds. */
  readonly worstMs: number
  readonly p99Ms: number
}

/** Between two requests on one kept connection, and between two new connections of one caller, milliseconds. */
const PAUSE_MS = { request: 20, connection: 100 } as const
const ANSWER_MS = 10_000

const backend = createServer({ noDelay: true }, (socket) => {
  socket.on('error', () => {})
  socket.on('data', () => socket.write(`${socket.localAddress}\n`))
}).listen(0, '0.0.0.0')

class Traffic {
  readonly #callers: Callers
  readonly #context: SecureContext
  readonly #latencies: number[] = []
  readonly #lanes: Promise<void>[]
  #connections = 0
  #failures = 0
  #failure = ''
  #stopped = false

  constructor(callers: Callers, serverNames: readonly string[]) {
    this.#callers = callers
    this.#context = createSecureContext({
      ...{ cert: callers.certificatePem, key: callers.privateKeyPem, ca: callers.caPem },
    })
    this.#lanes = serverNames.flatMap((name) => [this.#keep(name), this.#renew(name)])
  }

  async stop(): Promise<TrafficResult> {
    this.#stopped = true
    await Promise.all(this.#lanes)
    const sorted = this.#latencies.sort((a, b) => a - b)
    return {
      requests: sorted.length,
      connections: this.#connections,
      failures: this.#failures,
      failure: this.#failure,
      worstMs: sorted.at(-1) ?? 0,
      p99Ms: sorted[Math.floor(sorted.length * 0.99)] ?? 0,
    }
  }

  /** Requests on one connection, one after the other. */
  async #keep(serverName: string): Promise<void> {
    try {
      const socket = await dial(this.#callers, this.#context, serverName)
      this.#connections++
      while (!this.#stopped) {
        const before = performance.now()
        await ask(socket)
        this.#latencies.push(performance.now() - before)
        await pause(PAUSE_MS.request)
      }
      socket.end()
    } catch (error) {
      this.#fail(`kept connection to ${serverName}`, error)
    }
  }

  /** One connection after the other. */
  async #renew(serverName: string): Promise<void> {
    while (!this.#stopped) {
      try {
        const socket = await dial(this.#callers, this.#context, serverName)
        this.#connections++
        await ask(socket)
        socket.end()
      } catch (error) {
        this.#fail(`new connection to ${serverName}`, error)
      }
      await pause(PAUSE_MS.connection)
    }
  }

  #fail(what: string, error: unknown): void {
    this.#failures++
    if (this.#failure === '') this.#failure = `${what}: ${(error as Error).message}`
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}

async function dial({ port }: Callers, secureContext: SecureContext, servername: string): Promise<TLSSocket> {
  const socket = connect({
    host: '127.0.0.1',
    port,
    servername,
    secureContext,
    ALPNProtocols: ['istio'],
    // What is measured is the gateway, not what its clients verify.
    checkServerIdentity: () => undefined,
  })
  socket.setNoDelay(true)
  // What ends a connection is told by its end.
  socket.on('error', () => {})
  await settled(socket, 'secureConnect')
  return socket
}

/** The answer to one request: the address that the backend was called at. */
async function ask(socket: TLSSocket): Promise<string> {
  socket.write('?')
  return String(await settled(socket, 'data')).trim()
}

/** The event, or an error where the connection ends before, or nothing comes in time. */
async function settled(socket: Socket, event: string): Promise<unknown> {
  const abort = new AbortController()
  const timer = setTimeout(() => socket.destroy(new Error(`no ${event} in time`)), ANSWER_MS)
  try {
    const { signal } = abort
    const ended = once(socket, 'close', { signal }).then(() => {
      throw new Error('the gateway closed the connection')
    })
    const [value] = await Promise.race([once(socket, event, { signal }), ended])
    return value
  } finally {
    clearTimeout(timer)
    abort.abort()
  }
}

async function call({ callers, serverName }: Extract<Order, { do: 'call' }>): Promise<string> {
  const context = createSecureContext({
    ...{ cert: callers.certificatePem, key: callers.privateKeyPem, ca: callers.caPem },
  })
  try {
    const socket = await dial(callers, context, serverName)
    const address = await ask(socket)
    socket.end()
    return address
  } catch {
    return ''
  }
}

let traffic: Traffic | undefined

async function obey(order: Order): Promise<unknown> {
  if (order.do === 'call') return { address: await call(order) }
  if (order.do === 'start') traffic = new Traffic(order.callers, order.serverNames)
  else {
    const result = await traffic?.stop()
    traffic = undefined
    return { result }
  }
  return { started: true }
}

process.on('message', (order: Order) => void obey(order).then((answer) => process.send?.(answer)))
process.on('disconnect', () => process.exit(0))
await once(backend, 'listening')
process.send?.({ port: (backend.address() as AddressInfo).port })
