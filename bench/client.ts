// The load: mTLS connections to a target, a process of its own. Told by message what to do, answers with what it counted.
import { connect, createSecureContext, type SecureContext, type TLSSocket } from 'node:tls'

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

export interface LoadResult {
  connections: number
  requests: number
  bytesReceived: number
  bytesSent: number
  errors: number
  /** Of the first error, for the reader. */
  error: string
  seconds: number
}

/** Connections opened at one time where many are only held: none of them may wait so long that it is cut. */
const OPENERS = 16

const held: TLSSocket[] = []

if (process.send !== undefined) {
  process.on('message', (message: Load | 'release') => {
    if (message === 'release') void release().then(() => process.send?.({ released: true }))
    else void run(message).then((result) => process.send?.({ result }))
  })
  process.on('disconnect', () => process.exit(0))
}

async function run(load: Load): Promise<LoadResult> {
  const result: LoadResult = {
    connections: 0,
    requests: 0,
    bytesReceived: 0,
    bytesSent: 0,
    errors: 0,
    error: '',
    seconds: 0,
  }
  const context = createSecureContext({ cert: load.certificatePem, key: load.privateKeyPem, ca: load.caPem })
  const started = performance.now()
  const until = started + load.seconds * 1000
  let opened = 0
  const lane = async (): Promise<void> => {
    switch (load.mode) {
      case 'handshakes':
        while (performance.now() < until) await use(await dial(load, context, result), load, result, 0)
        return
      case 'requests':
      case 'download':
      case 'upload':
        return use(await dial(load, context, result), load, result, until)
      default:
        while (opened++ < load.connections) await hold(await dial(load, context, result), load, result)
    }
  }
  const lanes = isHeld(load) ? OPENERS : load.connections
  await Promise.all(Array.from({ length: lanes }, () => lane().catch((error: Error) => note(result, error))))
  result.seconds = (performance.now() - started) / 1000
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
      result.connections++
      resolve(socket)
    })
  })
}

/** Requests on one connection, one after the other, until the time is up; at least one. */
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
    socket.on('data', (data: Buffer) => {
      awaited -= data.length
      result.bytesReceived += data.length
      if (awaited > 0) return
      result.requests++
      if (upload) result.bytesSent += load.size
      if (performance.now() < until) ask()
      else socket.end()
    })
    socket.once('close', () => {
      if (awaited > 0) reject(new Error(`the target closed ${awaited} bytes too early`))
      else resolve()
    })
    socket.on('error', reject)
    ask()
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
