// A gRPC client: one call for each line of standard input, which is its deadline in ms, one line of JSON for each answer. Proxyless where the target is
// `xds:///…`; in clear, through a sidecar, where it is an address.
import { createInterface } from 'node:readline'
import { Client, credentials, Metadata, type ServiceError, status } from '@grpc/grpc-js'
import { register, XdsChannelCredentials } from '@grpc/grpc-js-xds'

const [target = '', method = ''] = process.argv.slice(2)
const same = (bytes: Buffer): Buffer => bytes
register()
const clear = credentials.createInsecure()
const client = new Client(target, target.startsWith('xds:') ? new XdsChannelCredentials(clear) : clear)

function call(timeoutMs: number): Promise<{ ok: string } | { error: string }> {
  const deadline = Date.now() + timeoutMs
  const metadata = new Metadata({ waitForReady: true })
  return new Promise((resolve) => {
    const done = (error: ServiceError | null, answer?: Buffer): void =>
      resolve(error === null ? { ok: `${answer}` } : { error: `${status[error.code]}: ${error.details}` })
    client.makeUnaryRequest(method, same, same, Buffer.alloc(0), metadata, { deadline }, done)
  })
}

for await (const line of createInterface({ input: process.stdin }))
  process.stdout.write(`${JSON.stringify(await call(Number(line)))}\n`)
client.close()
