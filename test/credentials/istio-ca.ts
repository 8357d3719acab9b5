// Istio's CA as istiod serves it: `IstioCertificateService` on grpc-js over real TLS. It signs what it is told to sign.
import 'reflect-metadata'
import { BinaryReader, BinaryWriter, WireType } from '@bufbuild/protobuf/wire'
import {
  type Metadata,
  Server,
  ServerCredentials,
  type ServerUnaryCall,
  type sendUnaryData,
  type status,
} from '@grpc/grpc-js'
import * as x509 from '@peculiar/x509'
import * as m from '../identity/mint.ts'

/** What one call asked for. */
export interface Asked {
  readonly csr: x509.Pkcs10CertificateRequest
  readonly validitySeconds: number
  readonly metadata: Metadata
}

/** The chain to answer with, or how to fail; `undefined` = never answers. */
export type Answer =
  | readonly string[]
  | Uint8Array
  | { readonly code: status; readonly details: string }
  | undefined

/** The requester's key, for whoever signs a certificate for it. */
export function keysOf(csr: x509.Pkcs10CertificateRequest): m.Keys {
  // The private half stays with the requester: a leaf is signed by its issuer.
  return { spki: new Uint8Array(csr.publicKey.rawData), privateKey: m.ecKeys().privateKey }
}

/** The SANs that a request asks for. */
export function namesIn(csr: x509.Pkcs10CertificateRequest): unknown {
  const extension = csr.extensions.find((one) => one instanceof x509.SubjectAlternativeNameExtension)
  return extension?.names.toJSON()
}

export class IstioCa {
  readonly root = m.mintRoot('istio ca root')
  readonly asked: Asked[] = []
  answer: (asked: Asked) => Answer
  readonly #serverRoot = m.mintRoot('web root')
  #server: Server | undefined
  #port = 0

  constructor(answer: (asked: Asked) => Answer) {
    this.answer = answer
  }

  /** Roots of the CA's own certificate. */
  get rootPem(): string {
    return this.#serverRoot.pem
  }

  get address(): string {
    return `localhost:${this.#port}`
  }

  /** On the same port again after `stop`. */
  async start(): Promise<void> {
    const own = m.mint({
      subject: 'istiod',
      keys: m.ecKeys(),
      issuer: this.#serverRoot,
      extensions: [
        m.basicConstraints(false),
        m.keyUsage(0x80),
        m.extendedKeyUsage(m.SERVER_AUTH),
        m.subjectAltName(m.dnsName('localhost')),
      ],
    })
    const server = new Server()
    const raw = (bytes: Buffer): Buffer => bytes
    server.addService(
      {
        CreateCertificate: {
          path: '/istio.v1.auth.IstioCertificateService/CreateCertificate',
          requestStream: false,
          responseStream: false,
          requestSerialize: raw,
          requestDeserialize: raw,
          responseSerialize: raw,
          responseDeserialize: raw,
        },
      },
      {
        CreateCertificate: (call: ServerUnaryCall<Buffer, Buffer>, callback: sendUnaryData<Buffer>) =>
          this.#serve(call, callback),
      },
    )
    const credentials = ServerCredentials.createSsl(null, [
      { cert_chain: Buffer.from(own.pem), private_key: Buffer.from(own.keyPem) },
    ])
    this.#port = await new Promise<number>((resolve, reject) => {
      server.bindAsync(`localhost:${this.#port}`, credentials, (error, port) =>
        error === null ? resolve(port) : reject(error),
      )
    })
    this.#server = server
  }

  stop(): void {
    this.#server?.forceShutdown()
  }

  #serve({ request, metadata }: ServerUnaryCall<Buffer, Buffer>, callback: sendUnaryData<Buffer>): void {
    const asked = { ...readRequest(request), metadata }
    this.asked.push(asked)
    const answer = this.answer(asked)
    if (answer === undefined) return
    if (answer instanceof Uint8Array) callback(null, Buffer.from(answer))
    else if ('code' in answer) callback(answer)
    else callback(null, Buffer.from(chainMessage(answer)))
  }
}

function chainMessage(chain: readonly string[]): Uint8Array {
  const writer = new BinaryWriter()
  for (const pem of chain) writer.tag(1, WireType.LengthDelimited).string(pem)
  return writer.finish()
}

function readRequest(bytes: Uint8Array): Omit<Asked, 'metadata'> {
  const reader = new BinaryReader(bytes)
  let csr = ''
  let validitySeconds = 0
  while (reader.pos < reader.len) {
    const [no] = reader.tag()
    if (no === 1) csr = reader.string()
    else validitySeconds = Number(reader.int64())
  }
  return { csr: new x509.Pkcs10CertificateRequest(csr), validitySeconds }
}
