// The load: mTLS connections to a target, a process of its own. Told by message what to do, answers with what it counted. Where CPU is
// counted, it says when the measured part begins and ends (`mark`) and waits each time until it may go on, so that the opening and the
// closing of the connections that carry requests are nobody's.
import { connect, createSecureContext, DEFAULT_CIPHERS, type SecureContext, type TLSSocket } from 'node:tls'

export interface Load {
  /** The last three open connections, leave them as they are, and answer; `release` ends them. */
  readonly mode:
    | 'handshakes'
    | 'requests'
    | 'download'
    | 'upload'
    | 'idle'
    | 'stalled-download'
    | 'stalled-upload'
  readonly host: string
  readonly port: number
  readonly servername: string
  readonly certificatePem: string
  readonly privateKeyPem: string
  readonly caPem: string
  /** At one time. */
  readonly connections: number
  /** How long to go on; of no meaning for connections that are only held. */
  readonly seconds: number
  /** Bytes of one answer (or of one upload). */
  readonly size: number
}

export interface Counts {
  connections: number
  requests: number
  bytesReceived: number
  bytesSent: number
}

export interface LoadResult extends Counts {
  /** What of it came before the measured part: connections that carry requests are opened, and tried with one, beforehand. */
  before: Counts
  errors: number
  /** Of the first error, for the reader. */
  error: string
  /** Of the measured part. */
  seconds: number
  /** CPU of this process in it, microseconds. */
  cpuMicroseconds: number
  /** TLS version, cipher and key exchange of the first connection. */
  negotiated: string
}

export type Mark = 'started' | 'ended'

/** Connections opened at one time where many are only held: none of them may wait so long that it is cut. */
const OPENERS = 16

const held: TLSSocket[] = []

if (process.send !== undefined) {
  process.on('message', (message: Load | 'release' | 'go on') => {
    if (message === 'go on') return
    if (message === 'release') void release().then(() => process.send?.({ released: true }))
    else void run(message).then((result) => process.send?.({ result }))
  })
  process.on('disconnect', () => process.exit(0))
}

async function mark(mark: Mark): Promise<void> {
  const answered = new Promise<void>((resolve) => {
    const take = (message: unknown): void => {
      if (message !== 'go on') return
      process.off('message', take)
      resolve()
    }
    process.on('message', take)
  })
  process.send?.({ mark })
  await answered
}

async function run(load: Load): Promise<LoadResult> {
  const none: Counts = { connections: 0, requests: 0, bytesReceived: 0, bytesSent: 0 }
  const result: LoadResult = {
    ...none,
    before: none,
    errors: 0,
    error: '',
    seconds: 0,
    cpuMicroseconds: 0,
    negotiated: '',
  }
  const context = createSecureContext({
    cert: load.certificatePem,
    key: load.privateKeyPem,
    ca: load.caPem,
    // In the order in which Envoy offers them, so that targets that leave the choice to the caller make the same. A post-quantum key
    // share, which no target here takes, would cost this process alone.
    ciphers: `TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256:${DEFAULT_CIPHERS}`,
    ecdhCurve: 'X25519:P-256',
  })
  const each = <T>(items: readonly T[], what: (item: T) => Promise<unknown>): Promise<unknown> =>
    Promise.all(items.map((item) => what(item).catch((error: Error) => note(result, error))))
  const lanes = Array.from({ length: isHeld(load) ? OPENERS : load.connections }, (_, lane) => lane)
  const measured = async (what: (until: number) => Promise<unknown>): Promise<void> => {
    const { connections, requests, bytesReceived, bytesSent } = result
    result.before = { connections, requests, bytesReceived, bytesSent }
    await mark('started')
    const [started, cpu] = [performance.now(), process.cpuUsage()]
    await what(started + load.seconds * 1000)
    const { user, system } = process.cpuUsage(cpu)
    result.seconds = (performance.now() - started) / 1000
    result.cpuMicroseconds = user + system
    await mark('ended')
  }
  if (isHeld(load)) {
    let opened = 0
    await each(lanes, async () => {
      while (opened++ < load.connections) await hold(await dial(load, context, result), load, result)
    })
  } else if (load.mode === 'handshakes') {
    await measured((until) =>
      each(lanes, async () => {
        while (performance.now() < until) {
          const socket = await dial(load, context, result)
          await use(socket, load, result, 0)
          await finish(socket)
        }
      }),
    )
  } else {
    const sockets: TLSSocket[] = []
    await each(lanes, async () => {
      const socket = await dial(load, context, result)
      await use(socket, load, result, 0)
      sockets.push(socket)
    })
    await measured((until) => each(sockets, (socket) => use(socket, load, result, until)))
    await each(sockets, finish)
  }
  return result
}

function isHeld({ mode }: Load): boolean {
  return mode === 'idle' || mode.startsWith('stalled')
}

function note(result: LoadResult, error: Error): void {
  result.errors++
  if (result.error === '') result.error = error.message
}

function dial(load: Load, secureContext: SecureContext, result: LoadResult): Promise<TLSSocket> {
  return new Promise((resolve, reject) => {
    const socket = connect({
      host: load.host,
      port: load.port,
      servername: load.servername,
      secureContext,
      // The benchmark measures the target; its name is a SPIFFE id, which the sidecar verifies and this client does not.
      checkServerIdentity: () => undefined,
    })
    socket.setNoDelay(true)
    socket.once('error', reject)
    socket.once('secureConnect', () => {
      if (result.connections++ === 0) result.negotiated = negotiated(socket)
      resolve(socket)
    })
  })
}

function negotiated(socket: TLSSocket): string {
  const { name } = socket.getCipher()
  // Typed as if only servers had it.
  const key = socket.getEphemeralKeyInfo() as { name?: string } | null
  return [socket.getProtocol() ?? '', name, key?.name ?? ''].join(' ')
}

/** Requests on one connection, one after the other, until the time is up; at least one. The connection stays. */
function use(socket: TLSSocket, load: Load, result: LoadResult, until: number): Promise<void> {
  const upload = load.mode === 'upload'
  const body = upload ? Buffer.alloc(load.size, 'x') : undefined
  const expected = upload ? 1 : load.size
  return new Promise((resolve, reject) => {
    let awaited = 0
    const ask = (): void => {
      awaited = expected
      socket.write(`${upload ? 'U' : 'D'}${load.size}\n`)
      if (body !== undefined) socket.write(body)
    }
    const done = (error?: Error): void => {
      socket.off('data', take).off('close', closed).off('error', done)
      if (error === undefined) resolve()
      else reject(error)
    }
    const closed = (): void => done(new Error(`the target closed ${awaited} bytes too early`))
    const take = (data: Buffer): void => {
      awaited -= data.length
      result.bytesReceived += data.length
      if (awaited > 0) return
      result.requests++
      if (upload) result.bytesSent += load.size
      if (performance.now() < until) ask()
      else done()
    }
    socket.on('data', take).on('close', closed).on('error', done)
    ask()
  })
}

/** Closes a connection in order, and waits until it is. */
function finish(socket: TLSSocket): Promise<void> {
  return new Promise((resolve) => {
    if (socket.closed) return resolve()
    socket.once('error', () => {})
    socket.once('close', () => resolve())
    // Flowing, or its end would never be read.
    socket.resume().end()
  })
}

/** One connection that stays: after one small request, or with a body that nobody takes.  */
async function hold(socket: TLSSocket, load: Load, result: LoadResult): Promise<void> {
  held.push(socket)
  if (load.mode === 'stalled-upload') {
    // The backend stops reading after the line.
    socket.on('error', (error) => note(result, error))
    socket.write('S\n')
    const chunk = Buffer.alloc(65_536, 'x')
    let left = load.size
    const more = (): void => {
      while (left > 0) {
        left -= chunk.length
        if (!socket.write(chunk)) return void socket.once('drain', more)
      }
    }
    more()
    result.requests++
    return
  }
  await new Promise<void>((resolve, reject) => {
    socket.once('error', reject)
    socket.once('close', () => reject(new Error('the target closed a connection that is to be held')))
    socket.once('data', (data: Buffer) => {
      if (load.mode === 'stalled-download') socket.pause()
      result.bytesReceived += data.length
      resolve()
    })
    socket.write(load.mode === 'idle' ? 'D100\n' : `D${load.size}\n`)
    result.requests++
  })
  socket.on('error', (error) => note(result, error))
}

async function release(): Promise<void> {
  const gone = held.splice(0).map(
    (socket) =>
      new Promise((resolve) => {
        socket.removeAllListeners('error').on('error', () => {})
        if (socket.closed) resolve(undefined)
        else socket.once('close', resolve).destroy()
      }),
  )
  await Promise.all(gone)
}
