// What only some clients are told: resources that end by themselves, and what does not exist.
import { fromBinary } from '@bufbuild/protobuf'
import { BinaryReader, WireType } from '@bufbuild/protobuf/wire'
import t from 'tap'
import { AdsStream } from '../../src/xds/ads-stream.ts'
import { type ClientTraits, clientTraits } from '../../src/xds/client-traits.ts'
import { decodeRequest, encodeRequest } from '../../src/xds/codec-request.ts'
import { encodeContent } from '../../src/xds/codec-response.ts'
import {
  DeltaDiscoveryResponseSchema,
  DiscoveryResponseSchema,
  ResourceSchema,
} from '../../src/xds/gen/envoy/service/discovery/v3/discovery_pb.js'
import type { Push, Variant } from '../../src/xds/messages.ts'
import { TYPE, type XdsResource } from '../../src/xds/types.ts'
import { byName, endpoints, listener, NODE, request } from './fixtures.ts'

const TTL = ['xds.config.supports-resource-ttl', 'xds.config.supports-resource-in-sotw']
const { endpoints: EDS, listener: LDS } = TYPE

t.test('a TTL goes to who says that he supports it, and never to an Envoy, whatever it says', async (t) => {
  const ttl = (userAgentName: string, clientFeatures: string[], variant: Variant) =>
    clientTraits({ ...NODE, userAgentName, clientFeatures }, variant).ttl
  t.equal(ttl('', [], 'delta'), false)
  t.equal(ttl('', TTL, 'delta'), true)
  t.equal(ttl('', TTL.slice(0, 1), 'delta'), true)
  t.equal(ttl('', TTL.slice(0, 1), 'sotw'), false, 'in SotW it needs a form that the client has to know')
  t.equal(ttl('', TTL, 'sotw'), true)
  for (const variant of ['sotw', 'delta'] as const)
    for (const agent of ['envoy', 'Envoy', 'envoy-contrib']) t.equal(ttl(agent, TTL, variant), false, agent)
})

t.test('client_features are read, and no more of them than there can be', async (t) => {
  const node = { ...NODE, clientFeatures: TTL }
  const bytes = encodeRequest('delta', request({ typeUrl: EDS, node }))
  t.match(decodeRequest('delta', bytes), { ok: true, value: { node: { clientFeatures: TTL } } })
  const many = { ...NODE, clientFeatures: Array.from({ length: 10_000 }, (_, n) => `f${n}`) }
  const read = decodeRequest('delta', encodeRequest('delta', request({ typeUrl: EDS, node: many })))
  t.ok(read.ok && read.value.node?.clientFeatures?.length === 64)
})

/** A stream on a view that can be changed, with a client of these traits. */
function open(variant: Variant, traits: Partial<ClientTraits>, ...resources: [string, XdsResource[]][]) {
  const views = new Map(resources.map(([typeUrl, all]) => [typeUrl, byName(...all)]))
  const stream = new AdsStream({ variant, view: (typeUrl) => views.get(typeUrl) ?? new Map() })
  stream.serve({ resumesNamed: false, ttl: false, resourceErrors: false, ...traits })
  const ask = (typeUrl: string, names: string[], push?: Push) =>
    stream.request(request({ typeUrl, names, responseNonce: push?.nonce ?? '' }), 0)
  return { stream, views, ask }
}

for (const variant of ['sotw', 'delta'] as const) {
  t.test(`${variant}: what ends by itself is kept alive by heartbeats as long as it is there`, async (t) => {
    const a = { ...endpoints('a'), ttlMs: 6_000 }
    const { stream, views, ask } = open(variant, { ttl: true }, [EDS, [a, endpoints('b')]])
    ask(EDS, ['a', 'b'])
    const first = stream.pull(0)
    t.match(first, { resources: { length: 2 }, ttl: true, heartbeats: undefined })
    const names = variant === 'sotw' ? ['a', 'b'] : []
    ask(EDS, names, first)
    t.equal(stream.expire(0), 2_000, 'a third of the time')
    t.equal(stream.pull(1_999), undefined)
    const beat = stream.pull(2_000)
    t.match(beat, { resources: [], heartbeats: [{ name: 'a', version: a.version }] })
    t.not(beat?.nonce, first?.nonce)
    t.equal(stream.pull(4_500), undefined, 'an answer is awaited')
    ask(EDS, names, beat)
    const next = stream.pull(4_500)
    t.match(next, { heartbeats: [{ name: 'a' }] })
    ask(EDS, names, next)
    views.set(EDS, byName(endpoints('b')))
    stream.changed(EDS, new Set(['a']))
    const gone = stream.pull(4_600)
    t.same(gone?.removed, variant === 'delta' ? ['a'] : undefined)
    ask(EDS, names, gone)
    t.equal(stream.pull(60_000), undefined)
    t.equal(stream.expire(60_000), undefined, 'what is gone is let end')
  })

  t.test(`${variant}: as the generated code reads it, with the body and without`, async (t) => {
    const a = { ...endpoints('a'), ttlMs: 6_500 }
    const content = { typeUrl: EDS, version: 'v', removed: [] }
    const read = (one: Parameters<typeof encodeContent>[1]) => {
      const bytes = Buffer.concat(encodeContent(variant, one))
      if (variant === 'delta') return fromBinary(DeltaDiscoveryResponseSchema, bytes).resources
      return fromBinary(DiscoveryResponseSchema, bytes).resources.map(({ typeUrl, value }) => {
        t.equal(typeUrl, 'type.googleapis.com/envoy.service.discovery.v3.Resource')
        return fromBinary(ResourceSchema, value)
      })
    }
    const duration = { seconds: 6n, nanos: 500_000_000 }
    const [whole] = read({ ...content, resources: [a], ttl: true })
    t.match(whole, { name: 'a', version: a.version, ttl: duration, resource: { typeUrl: a.anyTypeUrl } })
    t.same(Buffer.from(whole?.resource?.value ?? []), Buffer.from(a.body))
    const [beat] = read({ ...content, resources: [], heartbeats: [a] })
    t.match(beat, { name: 'a', version: a.version, ttl: duration })
    t.equal(beat?.resource, undefined)
  })

  t.test(`${variant}: who did not ask for it gets no TTL`, async (t) => {
    const { stream, ask } = open(variant, {}, [EDS, [{ ...endpoints('a'), ttlMs: 6_000 }]])
    ask(EDS, ['a'])
    const push = stream.pull(0)
    t.equal(push?.ttl, undefined)
    ask(EDS, variant === 'sotw' ? ['a'] : [], push)
    t.equal(stream.expire(0), undefined)
  })
}

t.test('SotW: a complete state has no TTL, for its heartbeat would have to repeat all of it', async (t) => {
  const { stream, ask } = open('sotw', { ttl: true }, [LDS, [{ ...listener('a'), ttlMs: 6_000 }]])
  ask(LDS, [])
  const push = stream.pull(0)
  t.equal(push?.ttl, undefined)
  ask(LDS, [], push)
  t.equal(stream.expire(0), undefined)
})

t.test(
  'SotW: a gRPC client, and one of ours, is told at once, and once, what does not exist; an Envoy waits as ever',
  async (t) => {
    const errors = (userAgentName: string, variant: Variant) =>
      clientTraits({ ...NODE, userAgentName }, variant).resourceErrors
    t.same(
      ['gRPC Go', 'gRPC C-core linux', 'gRPC Node Pure JS', 'gRPC Java', 'envoy', 'isthmus', ''].map((one) =>
        errors(one, 'sotw'),
      ),
      [true, true, true, true, false, true, false],
    )
    t.equal(errors('gRPC Go', 'delta'), false, 'removed_resources says the same')

    for (const typeUrl of [EDS, LDS]) {
      const make = typeUrl === EDS ? endpoints : listener
      const { stream, views, ask } = open('sotw', { resourceErrors: true }, [typeUrl, [make('a')]])
      ask(typeUrl, ['a', 'nobody'])
      const push = stream.pull(0)
      t.match(push, { resources: [{ name: 'a' }], notFound: ['nobody'] })
      ask(typeUrl, ['a', 'nobody'], push)
      t.equal(stream.pull(0), undefined, 'once')
      views.set(typeUrl, byName(make('a'), make('nobody')))
      stream.changed(typeUrl, new Set(['nobody']))
      t.match(stream.pull(0), { notFound: undefined })
      const silent = open('sotw', {}, [typeUrl, []])
      silent.ask(typeUrl, ['nobody'])
      t.equal(silent.stream.pull(0), undefined)
    }
  },
)

t.test('resource_errors on the wire: name, and google.rpc.Status NOT_FOUND', async (t) => {
  const bytes = Buffer.concat(
    encodeContent('sotw', { typeUrl: EDS, version: 'v', resources: [], removed: [], notFound: ['nobody'] }),
  )
  t.same(
    fromBinary(DiscoveryResponseSchema, bytes).resources,
    [],
    'who does not know the field does not stumble',
  )
  /** The only value of each field. */
  const fields = (message: Uint8Array) => {
    const reader = new BinaryReader(message)
    const found = new Map<number, Uint8Array | number>()
    while (reader.pos < reader.len) {
      const [field, wire] = reader.tag()
      found.set(field, wire === WireType.Varint ? reader.int32() : reader.bytes())
    }
    return found
  }
  const error = fields(fields(bytes).get(7) as Uint8Array)
  t.same(Buffer.from(fields(error.get(1) as Uint8Array).get(1) as Uint8Array).toString(), 'nobody')
  t.equal(fields(error.get(2) as Uint8Array).get(1), 5)
})
