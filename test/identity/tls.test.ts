// Real handshakes on loopback: what the options promise, asked of OpenSSL itself.
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import * as tls from 'node:tls'
import t, { type Test } from 'tap'
import { type Ca, createCa, type IssueOptions } from '../../src/identity/ca.ts'
import { type Credential, parseCredential } from '../../src/identity/credential.ts'
import { clientTlsOptions, createTlsServer, serverTlsOptions } from '../../src/identity/tls.ts'
import { TrustBundle, TrustBundles } from '../../src/identity/trust-bundle.ts'
import { verifySvid } from '../../src/identity/verify-svid.ts'
import * as m from './mint.ts'

const ca = await createCa({ trustDomain: 'c1.example' })
const other = await createCa({ trustDomain: 'c2.example' })
const bundles = new TrustBundles([ca.bundle, other.bundle])

async function credentialOf(from: Ca, options: IssueOptions): Promise<Credential> {
  const issued = await from.issue(options)
  const credential = parseCredential(issued.certificatePem, issued.privateKeyPem, 'certs')
  if (!credential.ok) throw new Error(credential.error.message)
  return credential.value
}
const gateway = await credentialOf(ca, { namespace: 'bookinfo', serviceAccount: 'gateway' })
const sleep = await credentialOf(other, { namespace: 'default', serviceAccount: 'sleep' })

interface Running {
  readonly server: tls.Server
  readonly port: number
  readonly accepted: tls.TLSSocket[]
}
async function serve(t: Test, options: tls.TlsOptions): Promise<Running> {
  const accepted: tls.TLSSocket[] = []
  const server = createTlsServer(options).on('secureConnection', (socket) => {
    accepted.push(socket)
    socket.on('error', () => {})
    socket.write('hello')
  })
  server.on('tlsClientError', (_error, socket) => socket.destroy())
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  t.teardown(() => {
    for (const socket of accepted) socket.destroy()
    server.close()
  })
  return { server, port: (server.address() as AddressInfo).port, accepted }
}

/** Connects and waits for the server's first byte: TLS 1.3 session tickets, if any, come before it. */
async function greet(
  port: number,
  options: tls.ConnectionOptions,
): Promise<{ session: Buffer | undefined; reused: boolean; socket: tls.TLSSocket }> {
  const socket = tls.connect({ host: '127.0.0.1', port, servername: 'x.bookinfo', ...options })
  let session: Buffer | undefined
  socket.on('session', (data) => {
    session = data
  })
  await once(socket, 'data')
  // Node tells of a ticket in a later turn of the loop than it reads the data behind it.
  await new Promise((resolve) => setImmediate(resolve))
  session ??= socket.getSession()
  const reused = socket.isSessionReused()
  // The server's teardown may reset what a test leaves open.
  socket.on('error', () => {})
  return { session, reused, socket }
}

for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
  t.test(`${version}: a client that offers a session again gets a full handshake`, async (t) => {
    const { port, accepted } = await serve(t, serverTlsOptions(gateway, bundles))
    // A client that does want to resume: our own options would not ask for a ticket.
    const { cert, key, ca: roots } = clientTlsOptions(sleep, bundles)
    const eager: tls.ConnectionOptions = {
      cert,
      key,
      ca: roots,
      minVersion: version,
      maxVersion: version,
      checkServerIdentity: () => undefined,
    }
    const first = await greet(port, eager)
    t.equal(first.socket.getProtocol(), version)
    t.ok(
      first.session,
      'the client has something to offer: of TLS 1.3 even a ticket, which names a session nobody kept',
    )
    if (version === 'TLSv1.2') t.equal(first.socket.getTLSTicket(), undefined, 'no ticket')
    first.socket.destroy()
    for (let i = 0; i < 3; i++) {
      const next = await greet(port, { ...eager, session: first.session! })
      t.equal(next.reused, false)
      t.ok(accepted.at(-1)?.getPeerCertificate().raw, 'the server saw a certificate again')
      t.equal(accepted.at(-1)?.isSessionReused(), false)
      next.socket.destroy()
    }
  })

  t.test(
    `${version}: the same client does resume where resumption is on, so the test above can fail`,
    async (t) => {
      const options = serverTlsOptions(gateway, bundles)
      const { port } = await serve(t, { ...options, secureOptions: 0 })
      const { cert, key, ca: roots } = clientTlsOptions(sleep, bundles)
      const eager: tls.ConnectionOptions = {
        cert,
        key,
        ca: roots,
        minVersion: version,
        maxVersion: version,
        checkServerIdentity: () => undefined,
      }
      const first = await greet(port, eager)
      first.socket.destroy()
      const next = await greet(port, { ...eager, session: first.session! })
      t.equal(next.reused, true)
      next.socket.destroy()
    },
  )

  t.test(`${version}: both ends of our own options meet, each with the other's leaf`, async (t) => {
    const { port, accepted } = await serve(t, serverTlsOptions(gateway, bundles))
    const expectedIds = [gateway.id.uri]
    const { socket } = await greet(port, {
      ...clientTlsOptions(sleep, bundles, { expectedIds }),
      minVersion: version,
      maxVersion: version,
    })
    t.equal(socket.authorized, true)
    t.equal(accepted[0]?.authorized, true)
    t.match(socket.getEphemeralKeyInfo(), { name: 'X25519' })
    socket.destroy()
  })
}

t.test(
  'a server that is not the one expected, or whose own trust domain does not vouch for it, is refused',
  async (t) => {
    const { port } = await serve(t, serverTlsOptions(gateway, bundles))
    const refused = async (options: tls.ConnectionOptions): Promise<string> => {
      const socket = tls.connect({ host: '127.0.0.1', port, servername: 'x.bookinfo', ...options })
      const [error] = (await once(socket, 'error')) as [Error]
      return error.message
    }
    t.match(
      await refused(clientTlsOptions(sleep, bundles, { expectedIds: ['spiffe://c1.example/x'] })),
      /the server is spiffe:.*gateway; expected/,
    )
    t.match(await refused(clientTlsOptions(sleep, bundles, { expectedIds: [] })), /expected nobody/)
    const later = { now: () => Date.now() + 48 * 3_600_000, after: () => () => {} }
    t.match(await refused(clientTlsOptions(sleep, bundles, { clock: later })), /expired/)
    // Our client's pool knows the CA, but as another trust domain's.
    const swapped = TrustBundle.parse('c2.example', ca.bundlePem, 'x')
    if (!swapped.ok) throw new Error(swapped.error.message)
    t.match(await refused(clientTlsOptions(sleep, new TrustBundles([swapped.value]))), /unknown_trust_domain/)
  },
)

t.test(
  'TLS asks for a CA of the pool, and who judges the leaf whether that CA leads to a root',
  async (t) => {
    const roots = ca.bundle.roots.map(({ pem }) => pem).join('')
    const issuers = other.bundle.certificates.filter(({ root }) => !root).map(({ pem }) => pem)
    const orphaned = TrustBundle.parse('c2.example', roots + issuers.join(''), 'test')
    if (!orphaned.ok) throw new Error(orphaned.error.message)
    const pool = new TrustBundles([orphaned.value])
    const { port, accepted } = await serve(t, serverTlsOptions(gateway, pool))
    const { socket } = await greet(port, clientTlsOptions(sleep, bundles))
    t.equal(accepted[0]?.authorized, true, 'its signature is looked at, and no other')
    const leaf = accepted[0]?.getPeerX509Certificate()?.raw ?? new Uint8Array()
    t.match(verifySvid(leaf, pool, Date.now()), { ok: false, error: { code: 'untrusted', message: /root/ } })
    t.equal(verifySvid(leaf, bundles, Date.now()).ok, true)
    socket.destroy()
  },
)

t.test('TLS 1.2 renegotiation is refused', async (t) => {
  const { port } = await serve(t, serverTlsOptions(gateway, bundles))
  const { cert, key, ca: roots } = clientTlsOptions(sleep, bundles)
  const { socket } = await greet(port, {
    cert,
    key,
    ca: roots,
    maxVersion: 'TLSv1.2',
    checkServerIdentity: () => undefined,
  })
  socket.renegotiate({}, () => {})
  t.match(await once(socket, 'error'), [{ message: /renegotiation/ }])
})

t.test('old versions and clients without a certificate get nowhere', async (t) => {
  const { port, accepted } = await serve(t, serverTlsOptions(gateway, bundles))
  const trusting = { host: '127.0.0.1', port, rejectUnauthorized: false }
  const old = tls.connect({
    ...trusting,
    minVersion: 'TLSv1',
    maxVersion: 'TLSv1.1',
    ciphers: 'DEFAULT:@SECLEVEL=0',
  })
  t.match(await once(old, 'error'), [{ code: /SSL|TLS/ }])
  const bare = tls.connect({ ...trusting, maxVersion: 'TLSv1.2' })
  await once(bare, 'error')
  t.equal(accepted.length, 0)
})

t.test('certificates of every allowed kind of key shake hands in both versions', async (t) => {
  const root = m.mintRoot('root')
  const bundle = TrustBundle.parse('c3.example', root.pem, 'x')
  if (!bundle.ok) throw new Error(bundle.error.message)
  const all = new TrustBundles([ca.bundle, bundle.value])
  const { port, accepted } = await serve(t, serverTlsOptions(gateway, all))
  for (const keys of [m.ecKeys(), m.ecKeys('P-384'), m.ecKeys('P-521'), m.rsaKeys(2048), m.ed25519Keys()]) {
    const leaf = m.mintLeaf(root, 'spiffe://c3.example/x', {}, { keys })
    const credential = parseCredential(leaf.pem, leaf.keyPem, 'certs')
    if (!credential.ok) throw new Error(credential.error.message)
    for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
      const { socket } = await greet(port, {
        ...clientTlsOptions(credential.value, all),
        minVersion: version,
        maxVersion: version,
      })
      t.equal(accepted.at(-1)?.authorized, true, `${keys.privateKey.asymmetricKeyType} ${version}`)
      socket.destroy()
    }
  }
})

t.test('setSecureContext changes what new connections see and leaves the open ones alone', async (t) => {
  const { server, port, accepted } = await serve(t, serverTlsOptions(gateway, bundles))
  const options = clientTlsOptions(sleep, bundles)
  const before = await greet(port, options)
  const serial = before.socket.getPeerCertificate().serialNumber
  server.setSecureContext(
    serverTlsOptions(await credentialOf(ca, { namespace: 'bookinfo', serviceAccount: 'gateway' }), bundles),
  )
  const after = await greet(port, options)
  t.not(after.socket.getPeerCertificate().serialNumber, serial)
  accepted[0]?.write('still here')
  const [data] = (await once(before.socket, 'data')) as [Buffer]
  t.equal(data.toString(), 'still here')
  before.socket.destroy()
  after.socket.destroy()
})
