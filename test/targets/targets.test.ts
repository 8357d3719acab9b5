// The same resources in our engine on Node, on Bun, and in Envoy: each of them serves, tells how it ended, and takes a change.
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { connect } from 'node:tls'
import t from 'tap'
import { createCa } from '../../src/identity/ca.ts'
import {
  backend,
  credentialSecret,
  endpoints,
  readAll,
  SNI,
  trustSecret,
  upstream,
} from '../proxy/support.ts'
import { EngineTarget } from './engine-target.ts'
import { EnvoyTarget } from './envoy-target.ts'
import { edge } from './resources.ts'
import { type Resources, type Target, type TargetKind, unavailable } from './target.ts'

const echo = await backend()
const [home, peer] = await Promise.all([
  createCa({ trustDomain: 'cluster-2.example' }),
  createCa({ trustDomain: 'cluster-1.example' }),
])
const identity = await home.issue({ namespace: 'eastwest', serviceAccount: 'gateway' })
const client = await peer.issue({ namespace: 'bookinfo', serviceAccount: 'sleep' })
const OTHER = SNI.replace('9080', '9081')
const resources = (names: readonly string[]): Resources => ({
  listeners: [edge('eastwest')],
  clusters: names.map((name) => upstream(name)),
  endpoints: names.map((name) => endpoints(name, [{ port: echo.port }])),
  secrets: [credentialSecret(identity), trustSecret([home, peer])],
})
t.teardown(() => echo.close())

async function start(kind: TargetKind, first: Resources): Promise<Target> {
  if (kind === 'envoy') return EnvoyTarget.start(first)
  const target = new EngineTarget(kind)
  await target.update(first)
  return target
}

for (const kind of ['node', 'bun', 'envoy'] as const) {
  t.test(
    `${kind}: serves, tells how it ended, takes a change`,
    { skip: unavailable(kind) ?? false },
    async (t) => {
      const target = await start(kind, resources([SNI]))
      t.teardown(() => target.stop())
      const call = async (servername: string, maxVersion: 'TLSv1.2' | 'TLSv1.3') => {
        const socket = connect({
          host: '127.0.0.1',
          port: target.port('eastwest'),
          servername,
          maxVersion,
          cert: client.certificatePem,
          key: client.privateKeyPem,
          ca: home.bundlePem,
          checkServerIdentity: () => undefined,
        })
        await once(socket, 'secureConnect')
        const { port } = socket.address() as AddressInfo
        socket.end('hello')
        t.equal((await readAll(socket)).toString(), 'hello')
        socket.destroy()
        return target.ended(port)
      }
      const expected = {
        sni: SNI,
        peerId: 'spiffe://cluster-1.example/ns/bookinfo/sa/sleep',
        bytesIn: 5,
        bytesOut: 5,
      }
      for (const version of ['TLSv1.2', 'TLSv1.3'] as const)
        t.match(await call(SNI, version), expected, version)
      await target.update(resources([SNI, OTHER]))
      t.match(await call(OTHER, 'TLSv1.3'), { ...expected, sni: OTHER }, 'a service that was added')
    },
  )
}
