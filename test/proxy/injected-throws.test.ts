// PROMISE (I19): whichever of our own methods throws while a connection is served, that one connection ends and nothing else does: the
// process lives, the next connection is served, and nothing of the broken one stays behind.
import { readdirSync } from 'node:fs'
import type { TLSSocket } from 'node:tls'
import t from 'tap'
import { TrustBundle, TrustBundles } from '../../src/identity/trust-bundle.ts'
import { SvidVerifier } from '../../src/identity/verify-svid.ts'
import { HandshakeAdmission } from '../../src/proxy/admission.ts'
import { CircuitBreaker } from '../../src/proxy/circuit-breaker.ts'
import { ConnectAttempt } from '../../src/proxy/connect-attempt.ts'
import { Connection } from '../../src/proxy/connection.ts'
import { Connector } from '../../src/proxy/connector.ts'
import { Dialer } from '../../src/proxy/dial.ts'
import { Endpoint } from '../../src/proxy/endpoint.ts'
import { EndpointSet } from '../../src/proxy/endpoint-set.ts'
import { FilterChainIndex } from '../../src/proxy/filter-chain-match.ts'
import { OutlierDetector } from '../../src/proxy/health/outlier-detector.ts'
import { HelloBuffer } from '../../src/proxy/hello-buffer.ts'
import { Judge } from '../../src/proxy/judge.ts'
import { LoadBalancer } from '../../src/proxy/load-balancer.ts'
import { Pump } from '../../src/proxy/pump.ts'
import { RecordGatherer } from '../../src/proxy/record-gatherer.ts'
import { Rounds } from '../../src/proxy/rounds.ts'
import { SecretStore } from '../../src/proxy/secrets.ts'
import { ServedChains } from '../../src/proxy/served-chains.ts'
import { TlsAcceptor } from '../../src/proxy/tls-acceptor.ts'
import { TlsEdge } from '../../src/proxy/tls-edge.ts'
import { TrafficRecorder } from '../../src/proxy/traffic-stats.ts'
import { Upstream } from '../../src/proxy/upstream.ts'
import { UpstreamNames } from '../../src/proxy/upstream-names.ts'
import { backend, gateway, gone } from './support.ts'

/** What runs while a connection is served. `Connection.end` itself and the table that it reports to are what catches the rest. */
const CLASSES = [
  ...[
    Connection,
    Connector,
    CircuitBreaker,
    Dialer,
    Endpoint,
    EndpointSet,
    FilterChainIndex,
    ConnectAttempt,
    HandshakeAdmission,
  ],
  ...[
    HelloBuffer,
    Judge,
    LoadBalancer,
    OutlierDetector,
    Rounds,
    Pump,
    RecordGatherer,
    SecretStore,
    ServedChains,
  ],
  ...[
    SvidVerifier,
    TlsAcceptor,
    TlsEdge,
    TrafficRecorder,
    TrustBundle,
    TrustBundles,
    Upstream,
    UpstreamNames,
  ],
] as const
const THE_NET = new Set(['end', 'ended', 'onEnd', 'elapsedMs', 'service'].map((key) => `Connection.${key}`))

interface Place {
  readonly name: string
  readonly prototype: object
  readonly key: string
  readonly descriptor: PropertyDescriptor
}

/** Ca.bundlePem, for the client of this test, is made of these. */
const OF_THE_TEST = new Set(['TrustBundle.roots', 'TrustBundle.pem'])

const places: Place[] = CLASSES.flatMap((found) =>
  Object.entries(Object.getOwnPropertyDescriptors(found.prototype as object))
    .filter(
      ([key]) => key !== 'constructor' && ![...THE_NET, ...OF_THE_TEST].includes(`${found.name}.${key}`),
    )
    .map(([key, descriptor]) => ({
      name: `${found.name}.${key}`,
      prototype: found.prototype as object,
      key,
      descriptor,
    })),
)

/** Throws at the first call after now, then is as it was. `thrown` says whether it came to that. */
function injectOnce({ name, prototype, key, descriptor }: Place): {
  readonly thrown: boolean
  restore(): void
} {
  const state = { thrown: false, restore: () => void Object.defineProperty(prototype, key, descriptor) }
  const instead = function (this: unknown): never {
    state.thrown = true
    state.restore()
    throw new Error(`injected into ${name}`)
  }
  const part = descriptor.get !== undefined ? { get: instead } : { value: instead }
  Object.defineProperty(prototype, key, { configurable: true, ...part })
  return state
}

/** Sends a word and ends; resolves with what came back once the connection is gone, whichever way. */
async function call(open: () => TLSSocket, word: string): Promise<string> {
  const socket = open()
  let text = ''
  socket.on('data', (chunk: Buffer) => (text += chunk.toString()))
  socket.on('secureConnect', () => socket.end(word))
  for (const e of ['secureConnect', 'end', 'error', 'close', 'finish'])
    socket.on(e, (x) => console.error('client', word, e, x?.code ?? ''))
  await gone(socket)
  return text
}

t.setTimeout(60_000)
t.test('a throw anywhere ends one connection and nothing else', async (t) => {
  const escaped: string[] = []
  const catcher = (error: Error) => escaped.push(error.message)
  process.on('uncaughtException', catcher).on('unhandledRejection', catcher)
  t.teardown(() => void process.off('uncaughtException', catcher).off('unhandledRejection', catcher))
  const target = await backend()
  const world = await gateway(target, { handshakeTimeoutS: 1 })
  t.equal(await call(world.open, 'before'), 'before')
  await world.proxy.lines(1)
  const descriptors = () => readdirSync('/proc/self/fd').length
  const base = descriptors()

  let thrown = 0
  for (const place of places) {
    const injected = injectOnce(place)
    await call(world.open, 'broken')
    injected.restore()
    if (injected.thrown) thrown++
    await until(
      `${place.name}: no connection to the backend is left`,
      () => target.sockets.every(({ destroyed }) => destroyed),
      t,
    )
    t.equal(await call(world.open, place.name), place.name, `${place.name}: the next connection is served`)
  }
  await until('no connection is left', () => world.proxy.engine.status().connections.open === 0, t)
  await until('no descriptor is left', () => descriptors() <= base, t)
  t.same(escaped, [], 'nothing reached the process')
  t.ok(thrown > 30, `${thrown} of ${places.length} places threw`)
  await Promise.all([world.proxy.engine.close(), target.close()])
})

/** Until it holds, which may take as long as a handshake's deadline. */
async function until(what: string, holds: () => boolean, t: { fail(message: string): void }): Promise<void> {
  const deadline = Date.now() + 3_000
  while (!holds()) {
    if (Date.now() > deadline) return t.fail(what)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }
}
