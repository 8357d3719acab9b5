// The load: mTLS connections to the gateway, a process of its own. Told by message what to do, answers with what it counted.
import { connect, createSecureContext, type TLSSocket } from 'node:tls'

export interface Load {
  readonly mode: 'handshakes' | 'requests' | 'download' | 'upload'
  readonly host: string
  readonly port: number
  readonly servername: string
  readonly certificatePem: string
  readonly privateKeyPem: string
  readonly caPem: string
  readonly connections: number
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
  /** Milliseconds per unit, sorted. */
  latencies: number[]
}

if (process.send !== undefined) {
  process.on('message', (load: Load) => void run(load).then((result) => process.send?.({ result })))
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
    latencies: [],
  }
  const context = createSecureContext({ cert: load.certificatePem, key: load.privateKeyPem, ca: load.caPem })
  const started = performance.now()
  const until = started + load.seconds * 1000
  const lane = async (): Promise<void> => {
    if (load.mode === 'handshakes') {
      while (performance.now() < until) await use(await dial(load, context, result), load, result, 0)
    } else await use(await dial(load, context, result), load, result, until)
  }
  await Promise.all(
    Array.from({ length: load.connections }, () => lane().catch((error: Error) => note(result, error))),
  )
  result.seconds = (performance.now() - started) / 1000
  result.latencies.sort((a, b) => a - b)
  return result
}

function note(result: LoadResult, error: Error): void {
  result.errors++
  if (result.error === '') result.error = error.message
}

function dial(
  load: Load,
  secureContext: ReturnType<typeof createSecureContext>,
  result: LoadResult,
): Promise<TLSSocket> {
  return new Promise((resolve, reject) => {
    const socket = connect({
      host: load.host,
      port: load.port,
      servername: load.servername,
      secureContext,
      // The benchmark measures the gateway; its name is a SPIFFE id, which the sidecar verifies and this client does not.
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
    let asked = 0
    const ask = (): void => {
      awaited = expected
      asked = performance.now()
      socket.write(`${upload ? 'U' : 'D'}${load.size}\n`)
      if (body !== undefined) socket.write(body)
    }
    socket.on('data', (data: Buffer) => {
      awaited -= data.length
      result.bytesReceived += data.length
      if (awaited > 0) return
      result.requests++
      if (upload) result.bytesSent += load.size
      result.latencies.push(performance.now() - asked)
      if (performance.now() < until) ask()
      else socket.end()
    })
    socket.once('close', () => resolve())
    socket.on('error', reject)
    ask()
  })
}
