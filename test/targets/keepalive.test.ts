// Peers that vanish without a word are probed for, on both sides: read from the kernel's own timers.
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { connect as connectTls } from 'node:tls'
import t from 'tap'
import { createCa } from '../../src/identity/ca.ts'
import { dial, helloOf } from '../proxy/raw-client.ts'
import {
  backend,
  credentialSecret,
  endpoints,
  listenerOf,
  passthroughChain,
  SNI,
  TLS_INSPECTOR,
  terminateChain,
  trustSecret,
  upstream,
} from '../proxy/support.ts'
import { EngineTarget } from './engine-target.ts'
import { unavailable } from './target.ts'

const KEEPALIVE_TIMER = '02'
const PASSED_THROUGH = SNI.replace('productpage', 'reviews')

/** Seconds until the first probe from `local` to `remote` (proc_net_tcp: `tr:tm->when`, in hundredths); undefined = no such timer. */
function probeIn(local: number, remote: number): number | undefined {
  const hex = (port: number) => port.toString(16).toUpperCase().padStart(4, '0')
  const rows = readFileSync('/proc/net/tcp', 'utf8').split('\n')
  const row = rows
    .map((line) => line.trim().split(/\s+/))
    .find(
      ([, from, to]) => from?.endsWith(`:${hex(local)}`) === true && to?.endsWith(`:${hex(remote)}`) === true,
    )
  const [timer, when = ''] = row?.[5]?.split(':') ?? []
  return timer === KEEPALIVE_TIMER ? Number.parseInt(when, 16) / 100 : undefined
}

/** Waits until what was sent is acknowledged: until then the kernel has another timer running. */
async function probeOf(local: number, remote: number): Promise<number> {
  const begun = Date.now()
  for (;;) {
    const found = probeIn(local, remote)
    if (found !== undefined || Date.now() - begun > 10_000) return found ?? Number.NaN
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}

const home = await createCa({ trustDomain: 'cluster-2.example' })
const identity = await home.issue({ namespace: 'eastwest', serviceAccount: 'gateway' })

for (const kind of ['node', 'bun'] as const) {
  const skip = unavailable(kind) ?? (process.platform === 'linux' ? false : 'reads /proc')
  t.test(`who says nothing is probed, on ${kind}`, { skip }, async (t) => {
    const target = await backend()
    t.teardown(() => target.close())
    const proxy = new EngineTarget(kind)
    t.teardown(() => proxy.stop())
    await proxy.update({
      listeners: [
        listenerOf(
          [terminateChain(), passthroughChain({ serverNames: [PASSED_THROUGH], cluster: PASSED_THROUGH })],
          {
            listenerFilters: [TLS_INSPECTOR],
          },
        ),
      ],
      clusters: [upstream(SNI), upstream(PASSED_THROUGH, { keepaliveS: 120 })],
      endpoints: [SNI, PASSED_THROUGH].map((name) =>
        endpoints(name, [{ port: target.port, tls: name === PASSED_THROUGH }]),
      ),
      secrets: [credentialSecret(identity), trustSecret([home])],
    })
    const port = proxy.port('eastwest')
    const silent = await dial(port)
    t.teardown(() => silent.destroy())
    const spoken = await dial(port)
    t.teardown(() => spoken.destroy())
    const hello = await helloOf(PASSED_THROUGH, ['istio'])
    spoken.resume().write(hello)
    while (spoken.bytesRead < hello.length) await new Promise((resolve) => setImmediate(resolve))

    const inTls = connectTls({
      host: '127.0.0.1',
      port,
      servername: SNI,
      cert: identity.certificatePem,
      key: identity.privateKeyPem,
      rejectUnauthorized: false,
    })
    t.teardown(() => inTls.destroy())
    inTls.write('x')
    await once(inTls, 'data')

    const within = (seconds: number, most: number) => seconds > most / 2 && seconds <= most
    t.ok(within(await probeOf(port, silent.localPort ?? 0), 300), 'before the ClientHello')
    t.ok(within(await probeOf(port, spoken.localPort ?? 0), 300), 'a client that is passed through')
    t.ok(within(await probeOf(port, inTls.localPort ?? 0), 300), 'a client whose TLS ends here')
    const towards = target.sockets[0]?.remotePort ?? 0
    t.ok(within(await probeOf(towards, target.port), 120), 'the backend, where the Cluster says so')
  })
}
