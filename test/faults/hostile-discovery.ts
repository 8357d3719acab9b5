// A discovery server that passes every check of its certificate and says nothing but nonsense.

import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import {
  createSecureServer,
  type Http2SecureServer,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from 'node:http2'
import { create, toBinary } from '@bufbuild/protobuf'
import type { Ca } from '../../src/identity/ca.ts'
import { parseCredential } from '../../src/identity/credential.ts'
import { serverTlsOptions } from '../../src/identity/tls.ts'
import { TrustBundles } from '../../src/identity/trust-bundle.ts'
import { DeltaDiscoveryResponseSchema } from '../../src/xds/gen/envoy/service/discovery/v3/discovery_pb.js'
import { messagePrefix } from '../../src/xds/grpc.ts'
import { TYPE } from '../../src/xds/types.ts'

export type Madness = 'garbage' | 'huge' | 'nack' | 'cut'

export class HostileDiscovery {
  streams = 0
  messages = 0
  readonly #server: Http2SecureServer
  readonly #sessions = new Set<ServerHttp2Session>()

  private constructor(server: Http2SecureServer, madness: Madness) {
    this.#server = server
    server.on('session', (session) => {
      this.#sessions.add(session)
      session.on('error', () => {}).on('close', () => this.#sessions.delete(session))
    })
    server.on('stream', (stream) => {
      this.streams += 1
      stream.on('error', () => {})
      stream.respond({ ':status': 200, 'content-type': 'application/grpc' })
      this.#rave(stream, madness)
    })
  }

  static async start(ca: Ca, address: string, madness: Madness): Promise<HostileDiscovery> {
    const issued = await ca.issue({ namespace: 'isthmus-system', serviceAccount: 'isthmus-discovery' })
    const credential = parseCredential(issued.certificatePem, issued.privateKeyPem, 'test')
    if (!credential.ok) throw new Error(credential.error.message)
    const tls = serverTlsOptions(credential.value, new TrustBundles([ca.bundle]))
    const server = createSecureServer({ ...tls, ALPNProtocols: ['h2'] })
    const hostile = new HostileDiscovery(server, madness)
    const [host = '', port = ''] = address.split(':')
    server.listen(Number(port), host)
    await once(server, 'listening')
    return hostile
  }

  async close(): Promise<void> {
    for (const session of this.#sessions) session.destroy()
    this.#server.close()
    await once(this.#server, 'close')
  }

  #rave(stream: ServerHttp2Stream, madness: Madness): void {
    const send = (bytes: Uint8Array): boolean => {
      this.messages += 1
      return stream.write(bytes)
    }
    if (madness === 'garbage') {
      send(framed(randomBytes(1_000)))
      stream.on('data', () => send(framed(randomBytes(1_000))))
    }
    if (madness === 'cut') {
      send(framed(Buffer.alloc(5_000)).subarray(0, 2_000))
      setTimeout(() => stream.session?.destroy(), 50)
    }
    if (madness === 'huge') {
      const part = Buffer.alloc(1_048_576)
      stream.write(messagePrefix(64 * 1_048_576))
      this.messages += 1
      let left = 64
      const pour = () => {
        while (left-- > 0 && !stream.destroyed)
          if (!stream.write(part)) return void stream.once('drain', pour)
      }
      pour()
    }
    if (madness === 'nack') {
      let nonce = 0
      const again = () => send(framed(refusable(String(++nonce))))
      again()
      // As fast as the answers come.
      stream.on('data', again)
    }
  }
}

function framed(body: Uint8Array): Buffer {
  return Buffer.concat([messagePrefix(body.length), body])
}

/** A well-formed response whose one resource cannot be read. */
function refusable(nonce: string): Uint8Array {
  const resource = {
    name: 'bad',
    version: nonce,
    resource: { typeUrl: TYPE.cluster, value: new Uint8Array([0x0a, 0xff, 0xff]) },
  }
  return toBinary(
    DeltaDiscoveryResponseSchema,
    create(DeltaDiscoveryResponseSchema, { typeUrl: TYPE.cluster, nonce, resources: [resource] }),
  )
}
