// A server that completes TLS with whoever lets it, and notes whether anybody then said something.
import { once } from 'node:events'
import type { Socket } from 'node:net'
import { createServer, type Server, type TlsOptions } from 'node:tls'
import type { Scope } from '../process/logged-process.ts'

export class Impostor {
  /** Connections that came. */
  tried = 0
  /** Server names that were asked for. */
  readonly triedBy = new Set<string>()
  /** Server names of those that sent anything after the handshake: they took it for whom it is not. */
  readonly believedBy = new Set<string>()

  readonly #server: Server
  readonly #sockets = new Set<Socket>()

  private constructor(server: Server) {
    this.#server = server
  }

  static async start(scope: Scope, host: string, port: number, tls: TlsOptions): Promise<Impostor> {
    const server = createServer({
      ...tls,
      ALPNProtocols: ['h2', 'istio'],
      requestCert: true,
      rejectUnauthorized: false,
      SNICallback: (name, done) => {
        impostor.triedBy.add(name)
        done(null)
      },
    })
    const impostor: Impostor = new Impostor(server)
    server.on('connection', (socket) => {
      impostor.tried++
      impostor.#sockets.add(socket)
      socket.once('close', () => impostor.#sockets.delete(socket))
    })
    server.on('tlsClientError', () => {})
    server.on('secureConnection', (socket) => {
      socket.on('error', () => {})
      socket.once('data', () => impostor.believedBy.add(socket.servername || ''))
    })
    scope.teardown(() => impostor.stop())
    for (;;) {
      server.listen(port, host)
      // Whoever had the address was killed, and may not be quite gone.
      const failed = await once(server, 'listening').then(
        () => undefined,
        (error: NodeJS.ErrnoException) => error,
      )
      if (failed === undefined) break
      if (failed.code !== 'EADDRINUSE') throw failed
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
    return impostor
  }

  async stop(): Promise<void> {
    if (!this.#server.listening) return
    this.#server.close()
    for (const socket of this.#sockets) socket.destroy()
    await once(this.#server, 'close')
  }
}
