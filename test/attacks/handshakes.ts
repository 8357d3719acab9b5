// Rows 17-25, 39 and 40: what a client can do within a handshake and after it.
import { randomBytes } from 'node:crypto'
import type { ConnectionOptions } from 'node:tls'
import { CONTENT } from '../targets/tls-records.ts'
import { seenRaw, type WireTls } from '../targets/wire.ts'
import type { Attack } from './catalogue.ts'
import { type AttackContext, BANNER, NAME, outcomeOf, SECOND } from './context.ts'
import {
  extension,
  handshake,
  hello,
  helloFor,
  record,
  sni,
  usualExtensions,
  vector8,
  vector16,
} from './hello.ts'

const bytes = (...values: number[]) => Buffer.from(values)

/** A good client in TLS 1.3 that has heard the backend's banner, and whose TLS library says nothing more. */
async function settled(context: AttackContext, options: object = {}): Promise<WireTls> {
  const client = context.tls({ minVersion: 'TLSv1.3', ...options })
  await client.wire.until(() => client.received >= BANNER.length || client.wire.tcpEnd !== 'open')
  return client
}

/** Sends records of one's own making inside a good connection; the outcome is the alert that answers them. */
async function inside(
  context: AttackContext,
  make: (seal: (type: number, body: Buffer) => Buffer) => Buffer,
): Promise<string> {
  const client = await settled(context)
  const keys = client.clientKeys()
  client.wire.socket.write(make((type, body) => keys.seal(type, body)))
  await client.ended()
  const { alerts, end } = client.seen()
  return outcomeOf({ ...client.seen(), data: Buffer.alloc(0), alerts, end })
}

const after: readonly Attack[] = [
  {
    row: 17,
    title: '10,000 key updates',
    authorised: true,
    run: async (context) => {
      const client = await settled(context)
      let keys = client.clientKeys()
      const flood: Buffer[] = []
      for (let i = 0; i < 10_000; i += 1) {
        flood.push(keys.seal(CONTENT.handshake, handshake(24, bytes(0))))
        keys = keys.next()
      }
      client.wire.socket.write(Buffer.concat(flood))
      await client.ended()
      return 'cut'
    },
    ours: 'cut',
    envoy: 'cut',
  },
  {
    row: 17,
    title: '1,000 empty records of data',
    authorised: true,
    run: (context) =>
      inside(context, (seal) =>
        Buffer.concat(Array.from({ length: 1_000 }, () => seal(CONTENT.applicationData, Buffer.alloc(0)))),
      ),
    ours: 'alert 10',
    envoy: 'alert 10',
  },
  {
    row: 17,
    title: 'a ClientHello inside the connection',
    authorised: true,
    run: (context) => inside(context, (seal) => seal(CONTENT.handshake, handshake(1, randomBytes(60)))),
    ours: 'alert 10',
    envoy: 'alert 10',
  },
  {
    row: 17,
    title: 'a record that does not decrypt',
    authorised: true,
    run: (context) => inside(context, () => record(23, randomBytes(60), 0x0303)),
    ours: 'alert 20',
    envoy: 'alert 20',
  },
  {
    row: 17,
    title: 'a record in clear inside the connection',
    authorised: true,
    run: async (context) => {
      const alert = await inside(context, () => record(22, handshake(1, randomBytes(60)), 0x0303))
      return alert === 'alert 10' || alert === 'alert 20' ? 'alert 10 or 20' : alert
    },
    ours: 'alert 10 or 20',
    envoy: 'alert 10 or 20',
  },
  {
    row: 19,
    title: 'renegotiation of TLS 1.2',
    authorised: true,
    run: async (context) => {
      const client = context.tls({ maxVersion: 'TLSv1.2' })
      await client.secured()
      const done = new Promise<string>((resolve) =>
        client.tls.renegotiate({ rejectUnauthorized: false }, (error) =>
          resolve(error ? 'refused' : 'renegotiated'),
        ),
      )
      return Promise.race([done, client.ended().then(() => 'refused')])
    },
    ours: 'refused',
    envoy: 'refused',
  },
  {
    row: 21,
    title: 'post-handshake authentication offered',
    run: (context) => context.send(helloFor(NAME, extension(49, Buffer.alloc(0)))),
    ours: 'answered',
    envoy: 'answered',
  },
]

const during: readonly Attack[] = [
  {
    row: 17,
    title: '1,000 change_cipher_spec records in the handshake',
    run: async (context) => {
      const wire = context.wire()
      const flood = Array.from({ length: 1_000 }, () => record(20, bytes(1), 0x0303))
      wire.socket.write(Buffer.concat([helloFor(NAME), ...flood]))
      await wire.ended()
      return 'cut'
    },
    ours: 'cut',
    envoy: 'cut',
  },
  {
    row: 20,
    title: 'early data',
    run: (context) => context.send(Buffer.concat([earlyHello(), record(23, randomBytes(200), 0x0303)])),
    ours: 'answered',
    envoy: 'answered',
  },
  {
    row: 25,
    title: 'no certificate, TLS 1.3',
    run: (context) => context.call({ cert: undefined, key: undefined }),
    ours: 'alert 116',
    envoy: 'alert 116',
  },
  {
    row: 25,
    title: 'no certificate, TLS 1.2',
    run: (context) => context.call({ cert: undefined, key: undefined, maxVersion: 'TLSv1.2' }),
    ours: 'alert 40',
    envoy: 'alert 40',
  },
]

/** Sessions of one connection, offered at another. */
async function resumed(
  context: AttackContext,
  first: ConnectionOptions,
  second: ConnectionOptions,
): Promise<string> {
  const giver = context.tls(first)
  const sessions: Buffer[] = []
  giver.tls.on('session', (session) => sessions.push(session))
  giver.tls.write('ping')
  await giver.wire.until(() => giver.received > BANNER.length || giver.wire.tcpEnd !== 'open')
  const session = sessions.at(-1) ?? giver.tls.getSession()
  const client = context.tls({ ...second, ...(session === undefined ? {} : { session }) })
  if (!(await client.secured())) return 'refused'
  if (client.tls.isSessionReused()) return 'resumed'
  await client.wire.until(() => client.received > 0 || client.wire.tcpEnd !== 'open')
  return client.received > 0 ? 'a full handshake' : 'refused'
}

const versions = ['TLSv1.3', 'TLSv1.2'] as const
const resumption: readonly Attack[] = versions.flatMap((maxVersion): Attack[] => [
  {
    row: 22,
    title: `a session taken to another name, ${maxVersion}`,
    authorised: true,
    run: (context) => resumed(context, { maxVersion }, { maxVersion, servername: SECOND }),
    ours: 'a full handshake',
    envoy: 'a full handshake',
  },
  {
    row: 23,
    title: `a session in the place of a certificate, ${maxVersion}`,
    authorised: true,
    run: (context) => resumed(context, { maxVersion }, { maxVersion, cert: undefined, key: undefined }),
    ours: 'refused',
    envoy: 'refused',
  },
])

const ends: readonly Attack[] = [
  {
    row: 39,
    title: 'RST within the handshake',
    run: async (context) => {
      const wire = context.wire()
      wire.socket.write(helloFor(NAME))
      await wire.until(() => seenRaw(wire).serverHello)
      const { port } = wire
      wire.socket.resetAndDestroy()
      await context.target.ended(port)
      return 'freed'
    },
    ours: 'freed',
    envoy: 'freed',
  },
  ...(['fin', 'rst'] as const).map(
    (how): Attack => ({
      row: 39,
      title: how === 'fin' ? 'FIN without close_notify' : 'RST within a transfer',
      authorised: true,
      run: async (context) => {
        const client = await settled(context)
        const connection = context.canary.connections.at(-1)
        client[how]()
        await context.canary.until(() => connection?.end !== 'open')
        return `the backend sees ${connection?.end}`
      },
      ours: `the backend sees ${how}`,
      envoy: `the backend sees ${how}`,
    }),
  ),
]

/** A hello that resumes a session nobody gave and sends data at once. RFC 8446 sections 4.2.10, 4.2.11. */
function earlyHello(): Buffer {
  const identity = Buffer.concat([vector16(randomBytes(100)), Buffer.alloc(4)])
  const psk = extension(41, Buffer.concat([vector16(identity), vector16(vector8(randomBytes(32)))]))
  return hello({ extensions: [sni(NAME), ...usualExtensions(), extension(42, Buffer.alloc(0)), psk] })
}

export const HANDSHAKES: readonly Attack[] = [...after, ...during, ...resumption, ...ends]
