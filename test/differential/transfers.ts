// Bytes: all of them, in order, however slowly the other side takes them, and whenever the client ends.
import { createHash, randomBytes } from 'node:crypto'
import type { Case } from './case.ts'
import type { DifferentialContext, Outcome } from './context.ts'
import type { Service } from './world.ts'

const MEGABYTE = 1 << 20
/** More than all the kernel's buffers on the way take (10 MB and more). */
const SLOW_BYTES = 24 * MEGABYTE
const sum = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex').slice(0, 8)

/** What came, compared with what was sent; no digest in the outcome, since the bytes are random. */
const whole = (got: Buffer, sent: Buffer): string =>
  sum(got) === sum(sent) ? `all ${sent.length} bytes` : `${got.length} of ${sent.length} bytes, or others`

/** Resolves when everything between sender and receiver is full: what waits to be sent is not nothing and no longer gets less. */
async function stalled(waiting: () => number): Promise<void> {
  for (let before = -1; before !== waiting() || before === 0; ) {
    before = waiting()
    await new Promise((resolve) => setTimeout(resolve, 30))
  }
}

/** `pauses`: whoever receives does not read until the sender can send no more. */
async function download(
  context: DifferentialContext,
  service: Service & ('script' | 'secure'),
  pauses: boolean,
): Promise<Outcome> {
  const recorder = context.world[service]
  const client = context.client(service)
  const connection = await context.reach(client, recorder)
  const sent = randomBytes(pauses ? SLOW_BYTES : 4 * MEGABYTE)
  if (pauses) client.wire.socket.pause()
  connection.stream.end(sent)
  if (pauses) {
    await stalled(() => connection.stream.writableLength)
    client.wire.socket.resume()
  }
  await client.wire.until(() => client.received === sent.length || client.wire.tcpEnd === 'rst')
  client.tls.end()
  await client.ended()
  const got = whole(client.data, sent)
  const { ending } = await context.outcome(client, '')
  return { client: got, backend: '', ending }
}

async function upload(
  context: DifferentialContext,
  service: Service & ('script' | 'secure'),
  chunk: number,
): Promise<Outcome> {
  const recorder = context.world[service]
  const client = context.client(service)
  const sent = Buffer.concat([Buffer.from('ping'), randomBytes(chunk === 1 ? 2_000 : 4 * MEGABYTE)])
  const connection = await context.reach(client, recorder)
  for (let at = 4; at < sent.length; at += chunk) client.tls.write(sent.subarray(at, at + chunk))
  client.tls.end()
  await recorder.until(() => connection.end !== 'open')
  connection.stream.end('done')
  await client.ended()
  const got = whole(connection.bytes, sent)
  const outcome = await context.outcome(client, got)
  return outcome
}

export const TRANSFERS: readonly Case[] = (['script', 'secure'] as const).flatMap((service): Case[] => [
  { id: `transfers/${service}/download`, run: (context) => download(context, service, false) },
  {
    id: `transfers/${service}/download-to-a-slow-client`,
    run: (context) => download(context, service, true),
  },
  { id: `transfers/${service}/upload`, run: (context) => upload(context, service, 65_536) },
  { id: `transfers/${service}/upload-byte-by-byte`, run: (context) => upload(context, service, 1) },
  {
    id: `transfers/${service}/everything-before-the-upstream-is-there`,
    run: async (context) => {
      const recorder = context.world[service]
      const before = recorder.connects
      const sent = randomBytes(MEGABYTE)
      const client = context.client(service)
      client.tls.end(sent)
      await recorder.until(() => recorder.connections[before]?.end === 'fin')
      const connection = recorder.connections[before]
      connection?.stream.end('done')
      await client.ended()
      return context.outcome(client, whole(connection?.bytes ?? Buffer.alloc(0), sent))
    },
  },
])
