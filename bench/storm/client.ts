// One end of the storm benchmark, a process of its own: quiet flows (small requests in an open loop on connections that stay), or a storm
// (new connections in an open loop, each with a handshake and one request). Told by message what to do, answers with what it saw.
import { connect as connectPlain, type Socket } from 'node:net'
import { connect, createSecureContext, type SecureContext } from 'node:tls'

export interface Flow {
  readonly kind: 'quiet' | 'storm'
  readonly host: string
  readonly port: number
  /** Past the target, in clear: what the machine and the benchmark do to each other without it. */
  readonly direct?: boolean
  readonly servername: string
  readonly certificatePem: string
  readonly privateKeyPem: string
  readonly caPem: string
  readonly seconds: number
  /** Requests or new connections a second, whatever becomes of those before. */
  readonly rate: number
  /** Connections that stay (quiet), or that may be under way (storm): one that is due beyond them is not begun, and counted. */
  readonly connections: number
}

export interface FlowResult {
  /** Requests answered, or connections that did all of theirs. */
  done: number
  /** Due, and not begun because too many were under way. */
  skipped: number
  errors: number
  /** Of the first error, for the reader. */
  error: string
  /** From the write of a request to the last byte of its answer, or from connect to it, microseconds. */
  latenciesUs: number[]
  /** How late this process was with what it had to begin, microseconds: its own fault, or the machine's. */
  latenessUs: number[]
}

const REQUEST = 'D100\n'
const ANSWER_BYTES = 100
/** How often a process looks what is due. */
const TICK_MS = 1

const kept: Socket[] = []
let keptFor = ''

if (process.send !== undefined) {
  process.on('message', (flow: Flow) => void run(flow).then((result) => process.send?.({ result })))
  process.on('disconnect', () => process.exit(0))
}

function dial(flow: Flow, secureContext: SecureContext): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const { host, port, servername } = flow
    // The benchmark measures the target; its name is a SPIFFE id, which the sidecar verifies and this client does not.
    const socket =
      flow.direct === true
        ? connectPlain({ host, port })
        : connect({ host, port, servername, secureContext, checkServerIdentity: () => undefined })
    socket.setNoDelay(true)
    socket.once('error', reject)
    socket.once(flow.direct === true ? 'connect' : 'secureConnect', () => resolve(socket))
  })
}

async function run(flow: Flow): Promise<FlowResult> {
  const result: FlowResult = {
    ...{ done: 0, skipped: 0, errors: 0, error: '' },
    ...{ latenciesUs: [], latenessUs: [] },
  }
  const { certificatePem: cert, privateKeyPem: key, caPem: ca } = flow
  const context = createSecureContext({ cert, key, ca })
  const failed = (error: Error): void => {
    result.errors++
    if (result.error === '') result.error = error.message
  }
  if (flow.kind === 'quiet') await quiet(flow, context, result, failed)
  else await storm(flow, context, result, failed)
  return result
}

/** Calls `begin` at the rate of the flow until its time is up; how late each was stands in the result. */
function paced(flow: Flow, result: FlowResult, begin: () => void): Promise<void> {
  const started = performance.now()
  const total = Math.floor(flow.rate * flow.seconds)
  let begun = 0
  return new Promise((resolve) => {
    const timer = setInterval(() => {
      const now = performance.now()
      while (begun < total && started + (begun * 1_000) / flow.rate <= now) {
        result.latenessUs.push(Math.round((now - started - (begun * 1_000) / flow.rate) * 1_000))
        begun++
        begin()
      }
      if (begun < total) return
      clearInterval(timer)
      resolve()
    }, TICK_MS)
  })
}

async function quiet(
  flow: Flow,
  context: SecureContext,
  result: FlowResult,
  failed: (error: Error) => void,
): Promise<void> {
  const name = `${flow.host}:${flow.port}`
  if (keptFor !== name) for (const socket of kept.splice(0)) socket.destroy()
  keptFor = name
  while (kept.length < flow.connections) kept.push(await dial(flow, context))
  let open = 0
  let settled = (): void => {}
  const lanes = kept.map((socket) => {
    const sent: number[] = []
    let awaited = ANSWER_BYTES
    socket.removeAllListeners('data').removeAllListeners('error')
    socket.on('error', failed)
    socket.on('data', (data: Buffer) => {
      awaited -= data.length
      while (awaited <= 0) {
        awaited += ANSWER_BYTES
        result.done++
        result.latenciesUs.push(Math.round((performance.now() - (sent.shift() ?? 0)) * 1_000))
        open--
      }
      if (open === 0) settled()
    })
    return { socket, sent }
  })
  let next = 0
  await paced(flow, result, () => {
    const lane = lanes[next++ % lanes.length]
    open++
    lane?.sent.push(performance.now())
    lane?.socket.write(REQUEST)
  })
  if (open > 0)
    await new Promise<void>((resolve) => {
      settled = resolve
    })
}

async function storm(
  flow: Flow,
  context: SecureContext,
  result: FlowResult,
  failed: (error: Error) => void,
): Promise<void> {
  const under = new Set<Promise<void>>()
  await paced(flow, result, () => {
    if (under.size >= flow.connections) {
      result.skipped++
      return
    }
    const one: Promise<void> = visit(flow, context)
      .then((us) => {
        result.done++
        result.latenciesUs.push(us)
      }, failed)
      .finally(() => under.delete(one))
    under.add(one)
  })
  await Promise.all(under)
}

/** A handshake, one request, and an orderly end; how long it took until the answer was there. */
async function visit(flow: Flow, context: SecureContext): Promise<number> {
  const from = performance.now()
  const socket = await dial(flow, context)
  return new Promise((resolve, reject) => {
    let awaited = ANSWER_BYTES
    let took = 0
    socket.on('data', (data: Buffer) => {
      awaited -= data.length
      if (awaited > 0) return
      took = Math.round((performance.now() - from) * 1_000)
      socket.end()
    })
    socket.on('error', reject)
    socket.once('close', () =>
      awaited > 0 ? reject(new Error(`the target closed ${awaited} bytes too early`)) : resolve(took),
    )
    socket.write(REQUEST)
  })
}
