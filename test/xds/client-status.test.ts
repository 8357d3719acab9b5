// CSDS: what each client has, asked with a gRPC client as an operator would.
import { create, fromBinary, type MessageInitShape, toBinary } from '@bufbuild/protobuf'
import * as grpc from '@grpc/grpc-js'
import t from 'tap'
import {
  ClientConfigStatus,
  ClientStatusRequestSchema,
  type ClientStatusResponse,
  ClientStatusResponseSchema,
  type ClientConfig_GenericXdsConfig as Config,
  ConfigStatus,
} from '../../src/xds/gen/envoy/service/status/v3/csds_pb.js'
import { GRPC } from '../../src/xds/grpc.ts'
import type { Variant } from '../../src/xds/messages.ts'
import type { XdsServerOptions } from '../../src/xds/server.ts'
import { TYPE } from '../../src/xds/types.ts'
import { byName, cluster, endpoints, listener, NODE, plain } from './fixtures.ts'
import { RawStream, serve } from './wire.ts'

type Ask = MessageInitShape<typeof ClientStatusRequestSchema>

const SERVICE = '/envoy.service.status.v3.ClientStatusDiscoveryService'
const raw = (bytes: Buffer) => bytes
const encode = (ask: Ask) =>
  Buffer.from(toBinary(ClientStatusRequestSchema, create(ClientStatusRequestSchema, ask)))

async function start(t: { teardown(end: () => unknown): void }, options: Partial<XdsServerOptions> = {}) {
  const served = serve({ mayReadStatus: () => undefined, ...options })
  const at = await served.server.listen({ host: '127.0.0.1', port: 0 })
  const target = 'port' in at ? `127.0.0.1:${at.port}` : ''
  const client = new grpc.Client(target, grpc.credentials.createInsecure())
  t.teardown(() => {
    client.close()
    return served.server.close(0)
  })
  const fetch = (ask: Ask = {}) =>
    new Promise<ClientStatusResponse>((resolve, reject) =>
      client.makeUnaryRequest(`${SERVICE}/FetchClientStatus`, raw, raw, encode(ask), (error, bytes) =>
        bytes === undefined ? reject(error) : resolve(fromBinary(ClientStatusResponseSchema, bytes)),
      ),
    )
  const open = (variant: Variant = 'delta') => {
    const stream = new RawStream(target, variant)
    t.teardown(() => stream.close())
    return stream
  }
  /** Waits until the server has read what the client said last. */
  const until = async (good: (configs: Map<string, Config>) => boolean) => {
    for (;;) {
      const configs = byKey(await fetch())
      if (good(configs)) return configs
    }
  }
  return { ...served, client, fetch, open, until }
}

/** `Cluster a` → what is said of it, of the only client. */
function byKey({ config }: ClientStatusResponse): Map<string, Config> {
  const all = config.flatMap((one) => one.genericXdsConfigs)
  return new Map(
    all.map((one) => [`${one.typeUrl.slice(one.typeUrl.lastIndexOf('.') + 1)} ${one.name}`, one]),
  )
}

for (const variant of ['sotw', 'delta'] as const) {
  t.test(
    `${variant}: acknowledged, refused with the reason, on its way, asked for and missing`,
    async (t) => {
      const { cache, open, until } = await start(t)
      cache.setType(TYPE.cluster, byName(cluster('a'), cluster('b')))
      cache.setType(TYPE.endpoints, byName(endpoints('a'), endpoints('b')))
      cache.setType(TYPE.listener, byName(listener('l')))
      cache.setType(TYPE.secret, byName(plain('key', 'private', TYPE.secret)))
      const stream = open(variant)
      stream.send({ typeUrl: TYPE.cluster })
      stream.ack(await stream.next())
      const names = ['a', 'not-there']
      stream.send({ typeUrl: TYPE.endpoints, names })
      const wanted = variant === 'sotw' ? { names } : {}
      stream.ack(await stream.next(), { ...wanted, errorDetail: 'no such thing as a' })
      stream.send({ typeUrl: TYPE.secret, names: ['key'] })
      stream.ack(await stream.next(), variant === 'sotw' ? { names: ['key'] } : {})
      stream.send({ typeUrl: TYPE.listener })
      await stream.next()

      const configs = await until(
        (all) =>
          all.get('ClusterLoadAssignment a')?.configStatus === ConfigStatus.ERROR &&
          all.get('Secret key')?.configStatus === ConfigStatus.SYNCED &&
          all.has('Listener l'),
      )
      const of = (key: string) => {
        const one = configs.get(key)
        return one && [ConfigStatus[one.configStatus], one.clientStatus, one.versionInfo]
      }
      t.same(of('Cluster a'), ['SYNCED', 3, cluster('a').version])
      t.same(of('Cluster b'), ['SYNCED', 3, cluster('b').version])
      t.same(of('ClusterLoadAssignment a'), ['ERROR', 4, endpoints('a').version])
      t.match(configs.get('ClusterLoadAssignment a')?.errorState, {
        details: 'no such thing as a',
        versionInfo: endpoints('a').version,
      })
      t.ok(configs.get('ClusterLoadAssignment a')?.errorState?.lastUpdateAttempt?.seconds)
      t.same(of('ClusterLoadAssignment not-there'), ['NOT_SENT', 2, ''])
      t.same(of('ClusterLoadAssignment b'), undefined, 'not asked for')
      t.same(of('Listener l'), ['STALE', 1, listener('l').version], 'sent, not answered')
      t.same(Buffer.from(configs.get('Cluster a')?.xdsConfig?.value ?? []), Buffer.from(cluster('a').body))
      t.equal(configs.get('Secret key')?.xdsConfig, undefined, 'a private key is in no answer')
    },
  )
}

t.test(
  'the clients that are meant, and only their state without the contents where that is asked',
  async (t) => {
    const { cache, open, fetch, until } = await start(t)
    cache.setType(TYPE.cluster, byName(cluster('a')))
    const stream = open()
    stream.send({ typeUrl: TYPE.cluster })
    stream.ack(await stream.next())
    await until((all) => all.get('Cluster a')?.configStatus === ConfigStatus.SYNCED)
    const bare = await fetch({ excludeResourceContents: true })
    t.match(bare.config[0]?.node, { id: NODE.id, cluster: NODE.cluster, metadata: NODE.metadata })
    t.equal(bare.config[0]?.genericXdsConfigs[0]?.xdsConfig, undefined)
    t.equal(bare.config[0]?.xdsConfig.length, 0, 'nothing of the deprecated form')
    t.equal(ClientConfigStatus.CLIENT_ACKED, 2)

    const id = (
      matchPattern: { case: 'exact' | 'prefix' | 'suffix' | 'contains'; value: string },
      ignoreCase = false,
    ): Ask => ({ nodeMatchers: [{ nodeId: { matchPattern, ignoreCase } }] })
    const meta = (key: string, matchPattern: object): Ask => ({
      nodeMatchers: [
        {
          nodeMetadatas: [
            {
              path: [{ segment: { case: 'key', value: key } }],
              value: { matchPattern: matchPattern as never },
            },
          ],
        },
      ],
    })
    const text = (value: string) => ({
      case: 'stringMatch',
      value: { matchPattern: { case: 'exact', value } },
    })
    const found = async (ask: Ask) => (await fetch(ask)).config.length
    t.equal(await found(id({ case: 'exact', value: NODE.id })), 1)
    t.equal(await found(id({ case: 'exact', value: 'somebody' })), 0)
    t.equal(await found(id({ case: 'prefix', value: 'SIDECAR~' }, true)), 1)
    t.equal(await found(id({ case: 'prefix', value: 'SIDECAR~' })), 0)
    t.equal(await found(id({ case: 'suffix', value: 'cluster.local' })), 1)
    t.equal(await found(id({ case: 'contains', value: 'sleep' })), 1)
    t.equal(await found(meta('CLUSTER_ID', text('cluster-1'))), 1)
    t.equal(await found(meta('CLUSTER_ID', text('cluster-2'))), 0)
    t.equal(await found(meta('NETWORK', { case: 'presentMatch', value: true })), 0)
    t.equal(await found(meta('__proto__', { case: 'presentMatch', value: true })), 0)
    const both = [
      ...(id({ case: 'exact', value: 'somebody' }).nodeMatchers ?? []),
      ...(meta('CLUSTER_ID', text('cluster-1')).nodeMatchers ?? []),
    ]
    t.equal(await found({ nodeMatchers: both }), 1, 'one of them is enough')
    const regex = { matchPattern: { case: 'safeRegex' as const, value: { regex: '(a+)+$' } } }
    await t.rejects(fetch({ nodeMatchers: [{ nodeId: regex }] }), {
      code: GRPC.invalidArgument,
      message: /exact, prefix, suffix or contains, not safeRegex/,
    })
  },
)

t.test('a stream answers request by request, and a reader that does not read holds one answer', async (t) => {
  const { cache, open, client, until } = await start(t)
  cache.setType(TYPE.cluster, byName(cluster('a')))
  const stream = open()
  stream.send({ typeUrl: TYPE.cluster })
  stream.ack(await stream.next())
  await until((all) => all.size === 1)
  const call = client.makeBidiStreamRequest(`${SERVICE}/StreamClientStatus`, raw, raw)
  const answers: number[] = []
  const done = new Promise<grpc.StatusObject>((resolve) => call.on('status', resolve))
  call.on('data', (bytes: Buffer) =>
    answers.push(fromBinary(ClientStatusResponseSchema, bytes).config.length),
  )
  for (let n = 0; n < 500; n++) call.write(encode({}))
  call.end()
  t.match(await done, { code: 0 })
  t.equal(answers.length, 500)
  t.ok(answers.every((one) => one === 1))
})

t.test('who may not is told so, garbage is refused, and so is an answer without end', async (t) => {
  const denied = { code: GRPC.permissionDenied, message: 'for operators', reason: 'status-denied' }
  const closed = await start(t, { mayReadStatus: () => denied })
  await t.rejects(closed.fetch(), { code: GRPC.permissionDenied, message: /for operators/ })
  t.equal(closed.server.refusals.get('status-denied'), 1)

  const small = await start(t, { limits: { maxStatusBytes: 300 } })
  small.cache.setType(TYPE.cluster, byName(...Array.from({ length: 10 }, (_, n) => cluster(`cluster-${n}`))))
  const stream = small.open()
  stream.send({ typeUrl: TYPE.cluster })
  await stream.next()
  await t.rejects(small.fetch(), { code: GRPC.resourceExhausted, message: /name fewer clients/ })
  const garbage = new Promise((_, reject) =>
    small.client.makeUnaryRequest(`${SERVICE}/FetchClientStatus`, raw, raw, Buffer.from([0xff]), (error) =>
      reject(error),
    ),
  )
  await t.rejects(garbage, { code: GRPC.invalidArgument, message: /malformed/ })
  t.same([small.server.refusals.get('status-too-large'), small.server.refusals.get('malformed')], [1, 1])
})
