// Clients that do what no client should, over real mutual TLS at a whole discovery server: each is refused or ignored, what is refused is
// counted by its reason, and another client of the same server gets every change meanwhile, on its one stream.
import { type ClientHttp2Session, type ClientHttp2Stream, connect } from 'node:http2'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { connect as tlsConnect } from 'node:tls'
import t from 'tap'
import { discoveryMetrics } from '../../src/cli/discovery-routes.ts'
import { type Ca, createCa } from '../../src/identity/ca.ts'
import { encodeRequest } from '../../src/xds/codec-request.ts'
import { decodeResponse } from '../../src/xds/codec-response.ts'
import { MessageReader, messagePrefix } from '../../src/xds/grpc.ts'
import type { XdsRequest, XdsResponse } from '../../src/xds/messages.ts'
import { ADS_PATH } from '../../src/xds/methods.ts'
import { type NodeInfo, TYPE } from '../../src/xds/types.ts'
import { peer, reachability, service } from '../resources/world.ts'
import { request } from '../xds/fixtures.ts'
import { TestCluster } from './cluster.ts'

const SLEEP = { namespace: 'bookinfo', serviceAccount: 'sleep' }
const NODE: NodeInfo = {
  id: 'sidecar~10.0.0.8~sleep-1.bookinfo~bookinfo.svc.cluster.local',
  cluster: '',
  metadata: {},
  locality: { region: '', zone: '' },
  userAgentName: 'envoy',
}
const other = await createCa({ trustDomain: 'cluster-2.local' })
const cluster = await TestCluster.start('cluster-1', {
  yaml:
    service({ name: 'productpage', pods: ['10.0.1.10:8080'] }) +
    reachability(['cluster-1', 'cluster-2'], {}) +
    peer('cluster-2', other.bundlePem),
})
const sessions: ClientHttp2Session[] = []
t.teardown(async () => {
  for (const session of sessions) session.destroy()
  await cluster.stop()
})

const witness = (
  await cluster.client({ ...NODE, userAgentName: 'isthmus' }, { ...SLEEP, serviceAccount: 'ratings' })
).start(TYPE.cluster)
const witnessed = () => cluster.discovery.clients().find(({ userAgent }) => userAgent === 'isthmus')
await witness.until('its view', () => witness.names(TYPE.cluster).length > 0)
const since = witnessed()?.connectedSinceMs
let changes = 0

/** A change reaches the witness, on the stream that it had at first. */
async function othersAreServed(): Promise<boolean> {
  const name = `change-${++changes}`
  await cluster.apply(service({ name, pods: ['10.0.1.30:8080'] }))
  await witness.until(name, () => witness.names(TYPE.cluster).some((one) => one.includes(name)))
  return witnessed()?.connectedSinceMs === since
}

const metrics = discoveryMetrics(cluster.process)
async function counted(reason: string): Promise<number> {
  const pattern = new RegExp(`^isthmus_discovery_refused_total\\{reason="${reason}"\\} (\\d+)`, 'm')
  return Number(pattern.exec(await metrics.text())?.[1] ?? 0)
}

/** A stream by hand: what it is told, and how it ends. */
class Raw {
  readonly stream: ClientHttp2Stream
  readonly ended: Promise<string>
  readonly responses: XdsResponse[] = []

  constructor(session: ClientHttp2Session) {
    const headers = { 'content-type': 'application/grpc', te: 'trailers' }
    this.stream = session.request({ ':method': 'POST', ':path': ADS_PATH.sotw, ...headers })
    const reader = new MessageReader(16 * 1024 * 1024)
    let message = ''
    this.stream.on('error', () => {})
    this.stream.on('end', () => this.stream.end())
    for (const event of ['response', 'trailers'])
      this.stream.on(event, (fields) => {
        message = decodeURIComponent(String(fields['grpc-message'] ?? message))
      })
    this.stream.on('data', (chunk: Buffer) => {
      const messages = reader.push(chunk)
      for (const one of messages.ok ? messages.value : []) {
        const response = decodeResponse('sotw', one)
        if (response.ok) this.responses.push(response.value)
      }
    })
    this.ended = new Promise((resolve) => this.stream.once('close', () => resolve(message)))
  }

  bytes(bytes: Uint8Array): this {
    if (this.stream.writable) this.stream.write(bytes)
    return this
  }

  say(fields: Partial<XdsRequest> & { typeUrl: string }): this {
    const bytes = encodeRequest('sotw', request(fields))
    return this.bytes(Buffer.concat([messagePrefix(bytes.length), bytes]))
  }

  async next(count: number): Promise<XdsResponse> {
    for (;;) {
      const response = this.responses[count - 1]
      if (response !== undefined) return response
      await nextTurn()
    }
  }
}

async function open(ca: Ca = cluster.ca, identity = SLEEP): Promise<ClientHttp2Session> {
  const svid = await ca.issue(identity)
  const session = connect(`https://127.0.0.1:${cluster.port}`, {
    createConnection: () =>
      tlsConnect({
        ...{ host: '127.0.0.1', port: cluster.port, ALPNProtocols: ['h2'], ca: cluster.ca.rootPem },
        ...{ cert: svid.certificatePem, key: svid.privateKeyPem, checkServerIdentity: () => undefined },
      }),
  })
  session.on('error', () => {})
  sessions.push(session)
  return session
}

const first = { typeUrl: TYPE.cluster, node: NODE }
const many = Array.from({ length: 100_001 }, (_, index) => String(index))
const REFUSED: Readonly<
  Record<
    string,
    { readonly reason: string; readonly says: RegExp; say(raw: Raw): unknown; readonly who?: 'peer' }
  >
> = {
  'bytes that are no message': {
    reason: 'malformed',
    says: /malformed request/,
    say: (raw) => raw.bytes(Buffer.concat([messagePrefix(3), Buffer.from([0xff, 0xff, 0xff])])),
  },
  'the head of a message of 64 MB': {
    reason: 'message-too-large',
    says: /67108864/,
    say: (raw) => raw.bytes(messagePrefix(64 * 1024 * 1024)),
  },
  'more names than a stream may want': {
    reason: 'malformed',
    says: /more than 100000 resource names/,
    say: (raw) => raw.say({ ...first, names: many }),
  },
  'names without end, a request at a time': {
    reason: 'too-many-names',
    says: /more than 100000 resource names/,
    say: (raw) => {
      raw.say({ ...first, typeUrl: TYPE.endpoints, names: many.slice(0, 60_000) })
      raw.say({ typeUrl: TYPE.route, names: many.slice(0, 60_000) })
    },
  },
  'types without end': {
    reason: 'too-many-types',
    says: /more than \d+ types/,
    say: (raw) => {
      for (let n = 0; n < 100; n++) raw.say({ ...first, typeUrl: `type.googleapis.com/x.T${n}` })
    },
  },
  'no node': { reason: 'no-node', says: /node.id/, say: (raw) => raw.say({ typeUrl: TYPE.cluster }) },
  'no type': {
    reason: 'wrong-type',
    says: /type_url is required/,
    say: (raw) => raw.say({ ...first, typeUrl: '' }),
  },
  'the cluster of somebody else': {
    reason: 'false-claim',
    says: /CLUSTER_ID is "cluster-2", the certificate is of cluster cluster-1/,
    say: (raw) => raw.say({ ...first, node: { ...NODE, metadata: { CLUSTER_ID: 'cluster-2' } } }),
  },
  'a namespace of somebody else': {
    reason: 'false-claim',
    says: /is not a workload of namespace payments/,
    say: (raw) => raw.say({ ...first, node: { ...NODE, id: 'sidecar~1~sleep.payments~x' } }),
  },
  'an id that is none': {
    reason: 'bad-claim',
    says: /node.id "me": expected/,
    say: (raw) => raw.say({ ...first, node: { ...NODE, id: 'me' } }),
  },
  'a claim of 5,000 characters': {
    reason: 'bad-claim',
    says: /ISTHMUS_BIND has 5000 characters/,
    say: (raw) => raw.say({ ...first, node: { ...NODE, metadata: { ISTHMUS_BIND: 'x'.repeat(5_000) } } }),
  },
  'the types of a proxy, by a peer': {
    reason: 'type-not-allowed',
    says: /peer cluster-2 may subscribe/,
    say: (raw) => raw.say({ ...first, node: { ...NODE, id: 'discovery~~cluster-2' } }),
    who: 'peer',
  },
}

const worker = await open()
const stranger = await open(other, { namespace: 'isthmus-system', serviceAccount: 'isthmus-discovery' })
for (const [what, { reason, says, say, who }] of Object.entries(REFUSED)) {
  t.test(`refused, counted as ${reason}, and nobody else notices: ${what}`, async (t) => {
    const before = await counted(reason)
    const raw = new Raw(who === 'peer' ? stranger : worker)
    say(raw)
    t.match(await raw.ended, says)
    t.equal(await counted(reason), before + 1)
    t.ok(await othersAreServed())
    t.notOk(worker.destroyed, 'nor do other streams of the same connection')
  })
}

t.test(
  'ignored, and nobody else notices: unknown types, wrong and stale nonces, old versions, another node',
  async (t) => {
    const raw = new Raw(worker).say(first)
    const response = await raw.next(1)
    raw.say({ typeUrl: 'type.googleapis.com/x.Unknown', names: ['a'] })
    raw.say({ typeUrl: TYPE.cluster, responseNonce: 'never-sent', versionInfo: 'never-was' })
    raw.say({ typeUrl: TYPE.cluster, responseNonce: response.nonce, versionInfo: response.version })
    raw.say({ typeUrl: TYPE.cluster, responseNonce: response.nonce, versionInfo: 'an older one' })
    raw.say({ typeUrl: TYPE.listener, node: { ...NODE, id: 'router~1~eastwest-gateway.bookinfo~x' } })
    t.ok(await othersAreServed())
    const types = new Set([await raw.next(2), await raw.next(3)].map(({ typeUrl }) => typeUrl))
    t.strictSame(types, new Set([TYPE.listener, TYPE.cluster]), 'the other type it asked for, and the change')
    const listeners = raw.responses.flatMap(({ resources }) => resources.map(({ name }) => name))
    t.notOk(listeners.includes('eastwest'), 'it stays who it was')
    raw.stream.end()
    await raw.ended
  },
)

t.test(
  'who refuses every response gets the latest, further and further apart, and nobody else notices',
  async (t) => {
    const raw = new Raw(worker).say(first)
    const spoken = { refusals: 0 }
    const refuse = setInterval(() => {
      for (const { nonce } of raw.responses.slice(spoken.refusals)) {
        spoken.refusals++
        raw.say({ typeUrl: TYPE.cluster, responseNonce: nonce, errorDetail: 'I take nothing' })
      }
    }, 1)
    t.teardown(() => clearInterval(refuse))
    await raw.next(1)
    const before = changes
    for (let n = 0; n < 12; n++) t.ok(await othersAreServed())
    t.ok(raw.responses.length <= 8, `${raw.responses.length} responses for ${changes - before} changes`)
    t.match(cluster.discovery.clients().find(({ userAgent }) => userAgent === 'envoy')?.types[TYPE.cluster], {
      ackedVersion: '',
      lastError: 'I take nothing',
    })
    raw.stream.end()
    await raw.ended
  },
)
