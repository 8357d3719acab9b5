// `isthmus explain` against real admin servers of two models and a real TLS listener in the gateway's place.
import { mkdir, writeFile } from 'node:fs/promises'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { createServer, type TLSSocket } from 'node:tls'
import t, { type Test } from 'tap'
import { AdminServer } from '../../src/admin/http.ts'
import { type Ca, createCa } from '../../src/identity/ca.ts'
import { writeCredential } from '../../src/identity/ca-folder.ts'
import { parseCredential } from '../../src/identity/credential.ts'
import { serverTlsOptions } from '../../src/identity/tls.ts'
import { TrustBundles } from '../../src/identity/trust-bundle.ts'
import { explainClient, explainServing, servingTarget } from '../../src/model/explain.ts'
import type { Model } from '../../src/model/types.ts'
import * as build from '../model/build.ts'
import { isthmus } from './run.ts'

const HOST = 'web.shop.svc.cluster.local'
const SNI = `outbound_.80_._.${HOST}`

interface GatewayOptions {
  /** Who it says it is; default the gateway that the model expects. */
  readonly serviceAccount?: string
  readonly onConnection?: (socket: TLSSocket) => void
  /** Names it serves; others end with alert `unrecognized_name`. */
  readonly names?: readonly string[]
}

/** A TLS listener of cluster c1 that knows the bundles of c1 and c2. */
async function startGateway(
  t: Test,
  [c1, c2]: readonly [Ca, Ca],
  options: GatewayOptions = {},
): Promise<number> {
  const { serviceAccount = 'east', onConnection, names = [SNI] } = options
  const issued = await c1.issue({ namespace: 'gw', serviceAccount })
  const credential = parseCredential(issued.certificatePem, issued.privateKeyPem, 'gateway')
  if (!credential.ok) throw new Error(credential.error.message)
  const server = createServer({
    ...serverTlsOptions(credential.value, new TrustBundles([c1.bundle, c2.bundle])),
    SNICallback: (name, done) => (names.includes(name) ? done(null) : done(new Error('unrecognized_name'))),
  })
  const open = new Set<TLSSocket>()
  server.on('secureConnection', (socket) => {
    open.add(socket)
    socket.on('error', () => undefined).on('close', () => open.delete(socket))
    onConnection?.(socket)
  })
  server.on('tlsClientError', () => undefined)
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  t.teardown(() => {
    for (const socket of open) socket.destroy()
    return new Promise((resolve) => server.close(resolve))
  })
  return (server.address() as AddressInfo).port
}

function servingModel(port: number, ready = true): Model {
  const slice = {
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: { name: 'web-a', namespace: 'shop', labels: { 'kubernetes.io/service-name': 'web' } },
    addressType: 'IPv4',
    ports: [{ port: 8080 }],
    endpoints: [{ addresses: ['10.0.0.1'], conditions: { ready } }],
  }
  const gateway = build.gatewayService('east', 'gw', [{ ip: '127.0.0.1' }])
  const metadata = {
    name: 'east',
    namespace: 'gw',
    labels: { 'networking.istio.io/gatewayPort': String(port) },
  }
  return build.modelOf(
    build.manifests(
      build.service('web', 'shop'),
      slice,
      build.gateway('east', 'gw'),
      { ...gateway, metadata },
      build.workspace('w', '*/shop'),
      build.setting('s', 'w', { gateway: 'gw', labels: { app: 'east' } }),
      build.peerSecret('c2'),
    ),
    'c1',
  )
}

function clientModel(port: number): Model {
  return build.modelOf(
    `apiVersion: networking.istio.io/v1beta1
kind: ServiceEntry
metadata: {name: web, namespace: xcp-multicluster}
spec:
  hosts: [${HOST}]
  ports: [{name: tcp, number: 80, protocol: TCP}]
  resolution: STATIC
  endpoints: [{address: 127.0.0.1, ports: {tcp: ${port}}, labels: {xcp.tetrate.io/cluster: c1, security.istio.io/tlsMode: istio}}]
---
${build.manifests(build.peerSecret('c1'))}`,
    'c2',
  )
}

/** The admin server of a discovery that has this model: `/explain` as discovery serves it. */
async function startAdmin(t: Test, model: Model): Promise<string> {
  const admin = new AdminServer({
    routes: {
      '/explain': async (query) => {
        const [from, host, port] = [query.get('from'), query.get('host') ?? '', Number(query.get('port'))]
        if (from === null)
          return { body: { hops: explainClient(model, host, port, query.get('to') ?? undefined) } }
        const target = servingTarget(model, host, port)
        return {
          body: {
            cluster: model.self.id,
            hops: explainServing(model, from, host, port),
            gateway: target?.gateway,
            sni: target?.sni,
          },
        }
      },
    },
  })
  const { host, port } = await admin.listen('127.0.0.1', 0)
  t.teardown(() => admin.close())
  return `${host}:${port}`
}

/** A state file of two clusters, as the demo writes it; `sleep` is a workload of c2. */
async function writeState(
  t: Test,
  [c1, c2]: readonly [Ca, Ca],
  admins: readonly [string, string],
  caller: Ca = c2,
): Promise<string> {
  const folder = t.testdir({})
  const issued = await caller.issue({ id: `spiffe://${caller.trustDomain}/ns/client/sa/sleep` })
  await mkdir(join(folder, 'sleep'))
  await writeCredential(join(folder, 'sleep'), { ...issued, bundlePem: caller.bundlePem })
  const clusters: Record<string, unknown> = {}
  for (const [i, ca] of [c1, c2].entries()) {
    await writeFile(join(folder, `${i}-root.pem`), ca.rootPem)
    await writeFile(join(folder, `${i}-cert.pem`), ca.issuerPem)
    clusters[`c${i + 1}`] = {
      trustDomain: ca.trustDomain,
      ca: { cert: join(folder, `${i}-cert.pem`), root: join(folder, `${i}-root.pem`) },
      discovery: { admin: admins[i] },
      identities:
        i === 0
          ? {}
          : { sleep: { cert: join(folder, 'sleep', 'tls.crt'), key: join(folder, 'sleep', 'tls.key') } },
    }
  }
  const file = join(folder, 'state.json')
  await writeFile(file, JSON.stringify({ ready: true, clusters }))
  return file
}

const cas = Promise.all([createCa({ trustDomain: 'c1.local' }), createCa({ trustDomain: 'c2.local' })])

async function world(
  t: Test,
  options: GatewayOptions & { ready?: boolean; port?: number; caller?: Ca } = {},
) {
  const both = await cas
  const port = options.port ?? (await startGateway(t, both, options))
  const serving = await startAdmin(t, servingModel(port, options.ready))
  const client = await startAdmin(t, clientModel(port))
  const state = await writeState(t, both, [serving, client], options.caller)
  const ask = async (target = 'web.shop:80') => {
    const ran = await isthmus('explain', 'c2', target, '--state', state, '-o', 'json')
    return { ...ran, report: ran.stdout === '' ? undefined : JSON.parse(ran.stdout) }
  }
  return { port, serving, client, state, ask }
}

t.test('a call that works: every hop holds, exit code 0', async (t) => {
  const { ask, state, port } = await world(t)
  const { code, report } = await ask()
  t.equal(code, 0)
  t.match(report, { ok: true, broken: null, paths: [{ serving: 'c1' }] })
  t.same(
    report.paths[0].hops.map((hop: { hop: string; where: string }) => `${hop.hop} ${hop.where}`),
    [
      'exposed c1',
      'reachable c1',
      'address c1',
      'reachable c2',
      'entry c2',
      'address c2',
      'tcp here',
      'tls here',
      'backend c1',
    ],
  )
  const { stdout } = await isthmus('explain', 'c2', 'web.shop:80', '--state', state)
  t.match(stdout, /✓ {2}exposed +c1 +rule w\/s\[0\]/)
  t.match(stdout, new RegExp(`✓  tcp +here +connected to 127.0.0.1 port ${port}`))
  t.match(
    stdout,
    /✓ {2}tls +here +TLSv1.3, server name outbound_\.80_\._\.web\.shop\.svc\.cluster\.local, it is spiffe:\/\/c1.local\/ns\/gw\/sa\/east, \d+\.\d days left/,
  )
  t.match(stdout, /caller: verified/)
  t.match(stdout, /the call works/)
})

t.test('the first broken hop is named with the field to change, exit code 1', async (t) => {
  await t.test('nothing listens at the address', async (t) => {
    const { code, report } = await (await world(t, { port: 1 })).ask()
    t.equal(code, 1)
    t.match(report.broken, { hop: 'tcp', ok: false, detail: /127.0.0.1 port 1: .*ECONNREFUSED/ })
  })
  await t.test('the gateway does not know the name', async (t) => {
    const { report } = await (await world(t, { names: [] })).ask()
    t.match(report.broken, { hop: 'tls', where: 'here' })
  })
  await t.test('somebody else answers at the address', async (t) => {
    const { report } = await (await world(t, { serviceAccount: 'impostor' })).ask()
    t.match(report.broken, {
      hop: 'tls',
      detail:
        /the server is spiffe:\/\/c1.local\/ns\/gw\/sa\/impostor; expected spiffe:\/\/c1.local\/ns\/gw\/sa\/east/,
    })
  })
  await t.test('the gateway refuses the caller', async (t) => {
    const { report } = await (await world(t, { caller: await createCa({ trustDomain: 'c2.local' }) })).ask()
    t.match(report.broken, {
      hop: 'tls',
      detail: /the gateway refuses spiffe:\/\/c2.local\/ns\/client\/sa\/sleep/,
      fix: /tls.crt/,
    })
  })
  await t.test('the gateway ends the connection after the handshake', async (t) => {
    const { report } = await (await world(t, { onConnection: (socket) => socket.destroy() })).ask()
    t.match(report.broken, { hop: 'backend', code: 'ClosedByGateway', fix: /access log/ })
  })
  await t.test('no backend is ready', async (t) => {
    const { report } = await (
      await world(t, { ready: false, onConnection: (socket) => socket.destroy() })
    ).ask()
    t.match(report.broken, { hop: 'backend', where: 'c1', code: 'NotReady' })
  })
  await t.test('a port that the service does not have', async (t) => {
    const { report } = await (await world(t)).ask('web.shop:81')
    t.match(report.broken, { hop: 'exposed', where: 'c1', code: 'NoPort' })
  })
  await t.test('a service that nobody has', async (t) => {
    const { report } = await (await world(t)).ask('nothing.shop:80')
    t.match(report.broken, { hop: 'exposed', code: 'NoService', detail: /namespace "shop" has web/ })
  })
})

t.test('addresses and certificates may be given one by one', async (t) => {
  const { serving, client, state } = await world(t)
  const folder = join(state, '..')
  const bundle = join(folder, 'c1.pem')
  await writeFile(bundle, (await cas)[0].bundlePem)
  const flags = ['--client-admin', client, '--serving-admin', serving, '--certs', join(folder, 'sleep')]
  const known = await isthmus('explain', 'c2', 'web.shop:80', ...flags, '--bundle', `c1.local=${bundle}`)
  t.match(known.stdout, /the call works/)
  t.equal(known.code, 0)
  const unknown = await isthmus('explain', 'c2', 'web.shop:80', ...flags)
  t.match(unknown.stdout, /broken at: tls \(here\)/)
  t.equal(unknown.code, 1)
})

t.test('a discovery server that is gone is said, not thrown', async (t) => {
  const { client, state } = await world(t)
  const folder = join(state, '..')
  const ran = await isthmus(
    'explain',
    'c2',
    'web.shop:80',
    '--client-admin',
    client,
    '--serving-admin',
    '127.0.0.1:1',
    '--certs',
    join(folder, 'sleep'),
  )
  t.equal(ran.code, 1)
  t.match(
    ran.stdout,
    /✗ {2}exposed +127.0.0.1:1 +discovery of the serving cluster cannot say: http:\/\/127.0.0.1:1 does not answer/,
  )
})

t.test('bad usage ends with 64 and one line', async (t) => {
  const { state } = await world(t)
  for (const [args, message] of [
    [['c2', 'web.shop'], /<host:port>: found "web.shop"/],
    [['c9', 'web.shop:80', '--state', state], /<cluster>: found "c9", expected one of c1, c2/],
    [['c2', 'web.shop:80'], /expected --state FILE, or --client-admin/],
    [['c2', 'web.shop:80', '--state', '/nowhere'], /--state \/nowhere: ENOENT/],
  ] as const) {
    const ran = await isthmus('explain', ...args)
    t.equal(ran.code, 64)
    t.match(ran.stderr, message)
    t.equal(ran.stderr.trim().split('\n').length, 1)
  }
})
