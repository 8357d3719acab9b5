// The floor: the smallest proxy that does the same job on the same runtime with `node:` APIs. Mutual TLS against the same CA with
// the same parameters, SNI looked up, connected in clear, bytes carried by hand. No limits, deadlines, SVID rules, policy, log or
// resets: what our engine costs beyond it is what all of these cost.
import { constants } from 'node:crypto'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { createServer as createTlsServer } from 'node:tls'
import { readJob, sayListening } from './job.ts'

const job = readJob()
const routes = new Map([[job.serverName, job.backendPort]])

const edge = createTlsServer({
  cert: job.certificatePem,
  key: job.privateKeyPem,
  ca: job.caPem,
  requestCert: true,
  rejectUnauthorized: true,
  minVersion: 'TLSv1.2',
  ecdhCurve: 'X25519:P-256',
  // The caller chooses, as with Envoy.
  honorCipherOrder: false,
  secureOptions: constants.SSL_OP_NO_TICKET,
  ALPNProtocols: ['h2', 'http/1.1', 'istio'],
  allowHalfOpen: true,
})
edge.on('tlsClientError', (_error, stream) => stream.destroy())
edge.on('secureConnection', (downstream) => {
  const port = routes.get((downstream as { servername?: string }).servername ?? '')
  if (port === undefined) return void downstream.destroy()
  const upstream = connect({ host: '127.0.0.1', port, allowHalfOpen: true, noDelay: true })
  flow(downstream, upstream)
  flow(upstream, downstream)
})

function flow(from: Socket, to: Socket): void {
  from.on('data', (chunk) => {
    if (!to.write(chunk)) from.pause()
  })
  to.on('drain', () => from.resume())
  from.on('end', () => to.end())
  from.on('error', () => to.destroy())
  from.on('close', () => to.destroySoon())
}

const server = createServer({ allowHalfOpen: true, noDelay: true }, (raw) => {
  raw.on('error', () => raw.destroy())
  raw.once('data', (hello) => {
    raw.pause()
    raw.unshift(hello)
    edge.emit('connection', raw)
  })
})
server.listen(0, '127.0.0.1', () => sayListening((server.address() as AddressInfo).port))
