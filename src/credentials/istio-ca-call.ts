import { readFile } from 'node:fs/promises'
import { Client, credentials, Metadata, type ServiceError } from '@grpc/grpc-js'
import { fail, type Result } from '../lib/result.ts'
import { CREATE_CERTIFICATE, decodeCertificateResponse, encodeCertificateRequest } from './istio-messages.ts'

/** A chain of PEM is a few kilobytes. */
const MAX_ANSWER_BYTES = 1024 * 1024

export interface IstioCaTarget {
  /** `host:port`; the CA's own certificate must be for that host. */
  readonly address: string
  /** Roots of the CA's own certificate, in PEM; read anew at each call. */
  readonly rootFile: string
  /** A service account's token for the audience `istio-ca`; kubelet renews it, so it is read anew at each call. */
  readonly tokenFile: string
  /** Sent as `clusterid`: istiod has a token reviewed by the API server of that cluster. */
  readonly cluster: string
  /** How long a call may take, milliseconds. */
  readonly timeoutMs: number
}

/**
 * `CreateCertificate` once: the chain in PEM, the leaf first, or one sentence that says why not. Abort ends the call. Each call has a
 * connection of its own, so that each verifies the CA anew; there is one every few hours.
 */
export async function createCertificate(
  target: IstioCaTarget,
  csr: string,
  validitySeconds: number,
  signal: AbortSignal,
): Promise<Result<readonly string[], string>> {
  const root = await readText(target.rootFile)
  if (!root.ok) return root
  const token = await readText(target.tokenFile)
  if (!token.ok) return token
  const metadata = new Metadata()
  metadata.set('clusterid', target.cluster)
  try {
    metadata.set('authorization', `Bearer ${token.value.trim()}`)
  } catch {
    // Not the text of the error: it would quote the token.
    return fail(`${target.tokenFile} holds no token that could be sent`)
  }
  const client = open(target.address, root.value)
  if (!client.ok) return client
  const answer = await call(
    client.value,
    encodeCertificateRequest({ csr, validitySeconds }),
    metadata,
    target,
    signal,
  )
  client.value.close()
  return answer.ok ? decodeCertificateResponse(answer.value) : answer
}

function open(address: string, rootPem: string): Result<Client, string> {
  try {
    const client = new Client(address, credentials.createSsl(Buffer.from(rootPem)), {
      'grpc.max_receive_message_length': MAX_ANSWER_BYTES,
      'grpc.use_local_subchannel_pool': 1,
      'grpc.enable_http_proxy': 0,
      'grpc.service_config_disable_resolution': 1,
      'grpc.enable_retries': 0,
    })
    return { ok: true, value: client }
  } catch (error) {
    return fail(`its roots cannot be used: ${(error as Error).message}`)
  }
}

function call(
  client: Client,
  request: Uint8Array,
  metadata: Metadata,
  { timeoutMs }: IstioCaTarget,
  signal: AbortSignal,
): Promise<Result<Uint8Array, string>> {
  return new Promise((resolve) => {
    const raw = (bytes: Uint8Array): Buffer => Buffer.from(bytes)
    const done = (error: ServiceError | null, value?: Uint8Array): void => {
      signal.removeEventListener('abort', abort)
      if (error !== null) resolve(fail(error.details || error.message))
      else resolve(value === undefined ? fail('it answered nothing') : { ok: true, value })
    }
    const options = { deadline: Date.now() + timeoutMs }
    const running = client.makeUnaryRequest(
      CREATE_CERTIFICATE,
      raw,
      (b: Buffer) => b,
      request,
      metadata,
      options,
      done,
    )
    const abort = (): void => running.cancel()
    signal.addEventListener('abort', abort)
    if (signal.aborted) abort()
  })
}

async function readText(path: string): Promise<Result<string, string>> {
  try {
    return { ok: true, value: await readFile(path, 'utf8') }
  } catch (error) {
    return fail(`${path} cannot be read (${(error as NodeJS.ErrnoException).code ?? String(error)})`)
  }
}
