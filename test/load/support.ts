// What the tests of the load generator share: a CA, and a TLS server in front of a backend, as small as can be.
import { once } from 'node:events'
import { type AddressInfo, connect } from 'node:net'
import { createServer } from 'node:tls'
import { createCa } from '../../src/identity/ca.ts'
import type { LoadTarget } from '../../src/load/plan.ts'

export interface Front {
  readonly target: LoadTarget
  /** SPIFFE id of the server. */
  readonly id: string
  /** Server names that clients asked for, in order. */
  readonly names: string[]
  close(): void
}

/** Ends mutual TLS in front of a port of this machine. */
export async function tlsFront(backendPort: number): Promise<Front> {
  const ca = await createCa({ trustDomain: 'load.test' })
  const server = await ca.issue({ namespace: 'load', serviceAccount: 'gateway' })
  const client = await ca.issue({ namespace: 'load', serviceAccount: 'client' })
  const names: string[] = []
  const { certificatePem: cert, privateKeyPem: key } = server
  const front = createServer({ cert, key, ca: ca.bundlePem, requestCert: true, rejectUnauthorized: true })
  front.on('secureConnection', (downstream) => {
    names.push(String(downstream.servername))
    const upstream = connect({ host: '127.0.0.1', port: backendPort, noDelay: true })
    downstream.setNoDelay(true)
    downstream.pipe(upstream).pipe(downstream)
    downstream.on('error', () => upstream.destroy()).on('close', () => upstream.destroy())
    upstream.on('error', () => downstream.destroy())
  })
  await once(front.listen(0, '127.0.0.1'), 'listening')
  const { port } = front.address() as AddressInfo
  const tls = {
    serverNames: ['one.test', 'two.test'],
    certificatePem: client.certificatePem,
    privateKeyPem: client.privateKeyPem,
    caPem: ca.bundlePem,
  }
  return { target: { address: '127.0.0.1', port, tls }, id: server.id, names, close: () => front.close() }
}
