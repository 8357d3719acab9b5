// A gRPC server that says who it is.
import {
  type ServerCredentials as Credentials,
  type Server as GrpcServer,
  Server,
  ServerCredentials,
} from '@grpc/grpc-js'
import type { Scope } from '../process/logged-process.ts'
import { METHOD } from './caller.ts'

export class Backend {
  readonly address: string
  readonly #server: GrpcServer

  private constructor(server: GrpcServer, address: string) {
    this.#server = server
    this.address = address
  }

  /** In clear unless there are credentials. */
  static async start(
    scope: Scope,
    name: string,
    at = '127.0.0.1:0',
    credentials: Credentials = ServerCredentials.createInsecure(),
  ): Promise<Backend> {
    const server = new Server()
    const same = (bytes: Buffer): Buffer => bytes
    const method = {
      ...{ path: METHOD, requestStream: false, responseStream: false },
      ...{
        requestSerialize: same,
        requestDeserialize: same,
        responseSerialize: same,
        responseDeserialize: same,
      },
    }
    server.addService(
      { who: method },
      { who: (_call: unknown, done: (e: null, b: Buffer) => void) => done(null, Buffer.from(name)) },
    )
    const port = await new Promise<number>((resolve, reject) =>
      server.bindAsync(at, credentials, (error, bound) => (error === null ? resolve(bound) : reject(error))),
    )
    const backend = new Backend(server, `${at.slice(0, at.lastIndexOf(':'))}:${port}`)
    scope.teardown(() => backend.stop())
    return backend
  }

  /** As a pod that ends: connections are cut. */
  stop(): void {
    this.#server.forceShutdown()
  }
}
