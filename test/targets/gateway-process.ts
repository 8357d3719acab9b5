import { once } from 'node:events'
import { connect, createSecureContext, type TLSSocket } from 'node:tls'
import { createCa } from '../../src/identity/ca.ts'
import { type Backend, credentialSecret, endpoints, SNI, trustSecret, upstream } from '../proxy/support.ts'
import { EngineTarget } from './engine-target.ts'
import { edge } from './resources.ts'

export interface GatewayProcess {
  readonly engine: EngineTarget
  /** A client after its handshake; half-closes are its own business. */
  connect(): Promise<TLSSocket>
  stop(): Promise<void>
}

/** A gateway that leads to a backend, on a runtime, and clients that may call it. */
export async function gatewayProcess(kind: 'node' | 'bun', target: Backend): Promise<GatewayProcess> {
  const ca = await createCa({ trustDomain: 'pump.example' })
  const own = await ca.issue({ namespace: 'eastwest', serviceAccount: 'gateway' })
  const client = await ca.issue({ namespace: 'bookinfo', serviceAccount: 'sleep' })
  const engine = new EngineTarget(kind)
  await engine.update({
    listeners: [edge('eastwest')],
    clusters: [upstream(SNI)],
    endpoints: [endpoints(SNI, [{ port: target.port }])],
    secrets: [credentialSecret(own), trustSecret([ca])],
  })
  const secureContext = createSecureContext({
    cert: client.certificatePem,
    key: client.privateKeyPem,
    ca: ca.bundlePem,
  })
  return {
    engine,
    async connect() {
      const port = engine.port('eastwest')
      const options = { host: '127.0.0.1', port, servername: SNI, secureContext, allowHalfOpen: true }
      const socket = connect({ ...options, checkServerIdentity: () => undefined })
      await once(socket, 'secureConnect')
      return socket
    },
    stop: () => engine.stop(),
  }
}
