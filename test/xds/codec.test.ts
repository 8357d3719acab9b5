// The hand-written envelopes against the generated code, and against garbage.
import assert from 'node:assert/strict'
import { create, fromBinary, type JsonObject, toBinary } from '@bufbuild/protobuf'
import fc from 'fast-check'
import t from 'tap'
import { decodeRequest, encodeRequest } from '../../src/xds/codec-request.ts'
import { decodeResponse, encodeContent, encodeNonce } from '../../src/xds/codec-response.ts'
import { endpointsOf } from '../../src/xds/endpoints-of.ts'
import { ClusterSchema } from '../../src/xds/gen/envoy/config/cluster/v3/cluster_pb.js'
import {
  DeltaDiscoveryRequestSchema,
  DeltaDiscoveryResponseSchema,
  DiscoveryRequestSchema,
  DiscoveryResponseSchema,
  ResourceSchema,
} from '../../src/xds/gen/envoy/service/discovery/v3/discovery_pb.js'
import type { Content, Variant, XdsRequest } from '../../src/xds/messages.ts'
import { rawResource } from '../../src/xds/resource.ts'
import type { NodeInfo } from '../../src/xds/types.ts'
import { cluster, endpoints, NODE, request } from './fixtures.ts'

const text = fc.string({ unit: 'grapheme', maxLength: 12 })
const PLAIN = { noNullPrototype: true } as const
const node: fc.Arbitrary<NodeInfo> = fc.record(
  {
    id: text,
    cluster: text,
    metadata: fc.dictionary(
      text.filter((key) => key !== '__proto__'),
      fc.oneof(text, fc.boolean(), fc.constant(null), fc.integer(), fc.array(text)),
      PLAIN,
    ),
    locality: fc.record({ region: text, zone: text }, PLAIN),
    userAgentName: text,
  },
  PLAIN,
)
const buildVersion = fc.tuple(fc.nat(), fc.nat(), fc.nat())
const versions = fc
  .uniqueArray(fc.tuple(text, text), { selector: ([name]) => name, maxLength: 4 })
  .map((all) => new Map(all))
const requests: fc.Arbitrary<XdsRequest> = fc.record(
  {
    typeUrl: text,
    node: fc.option(node, { nil: undefined }),
    versionInfo: text,
    names: fc.array(text, { maxLength: 5 }),
    unsubscribe: fc.array(text, { maxLength: 5 }),
    initialVersions: versions,
    responseNonce: text,
    errorDetail: fc.option(text, { nil: undefined }),
  },
  PLAIN,
)
const pushes: fc.Arbitrary<Content & { nonce: string }> = fc.record(
  {
    typeUrl: text,
    nonce: text,
    version: text,
    resources: fc
      .uniqueArray(fc.tuple(text, fc.uint8Array({ maxLength: 20 })), {
        selector: ([name]) => name,
        maxLength: 4,
      })
      .map((all) => all.map(([name, body]) => rawResource(name, 'type.googleapis.com/x', body))),
    removed: fc.array(text, { maxLength: 4 }),
  },
  PLAIN,
)

/** The parts that both variants share, as protobuf-es wants them. */
function common(one: XdsRequest) {
  const errorDetail =
    one.errorDetail === undefined ? {} : { errorDetail: { code: 3, message: one.errorDetail } }
  const shared = { typeUrl: one.typeUrl, responseNonce: one.responseNonce, ...errorDetail }
  if (one.node === undefined) return shared
  const { id, cluster, locality, userAgentName } = one.node
  return {
    ...shared,
    node: { id, cluster, locality, userAgentName, metadata: one.node.metadata as JsonObject },
  }
}

t.test('the version of a client is read as the generated code writes it', async (t) => {
  fc.assert(
    fc.property(buildVersion, ([majorNumber, minorNumber, patch]) => {
      const userAgentVersionType = {
        case: 'userAgentBuildVersion' as const,
        value: { version: { majorNumber, minorNumber, patch }, metadata: { revision: 'x' } },
      }
      const bytes = toBinary(
        DiscoveryRequestSchema,
        create(DiscoveryRequestSchema, { node: { userAgentVersionType } }),
      )
      const read = decodeRequest('sotw', bytes)
      const node = read.ok ? read.value.node : undefined
      assert.equal(node?.userAgentVersion, `${majorNumber}.${minorNumber}.${patch}`)
      const again = decodeRequest('sotw', encodeRequest('sotw', { ...request({ typeUrl: '' }), node }))
      assert.deepEqual(again.ok && again.value.node, node)
    }),
  )
  t.pass('for any numbers')
})

t.test('requests are read as the generated code writes them', async (t) => {
  fc.assert(
    fc.property(requests, (one) => {
      const sotw = create(DiscoveryRequestSchema, {
        ...common(one),
        versionInfo: one.versionInfo,
        resourceNames: [...one.names],
      })
      const wantSotw = { ...one, unsubscribe: [], initialVersions: new Map() }
      assert.deepEqual(decodeRequest('sotw', toBinary(DiscoveryRequestSchema, sotw)), {
        ok: true,
        value: wantSotw,
      })
      const delta = create(DeltaDiscoveryRequestSchema, {
        ...common(one),
        resourceNamesSubscribe: [...one.names],
        resourceNamesUnsubscribe: [...one.unsubscribe],
        initialResourceVersions: Object.fromEntries(one.initialVersions),
      })
      const read = decodeRequest('delta', toBinary(DeltaDiscoveryRequestSchema, delta))
      assert.deepEqual(read, { ok: true, value: { ...one, versionInfo: '' } })
    }),
    { seed: 5, numRuns: 200 },
  )
  t.pass()
})

t.test('requests are written as the generated code reads them', async (t) => {
  fc.assert(
    fc.property(requests, (one) => {
      const sotw = fromBinary(DiscoveryRequestSchema, encodeRequest('sotw', one))
      assert.deepEqual(sotw.resourceNames, one.names)
      assert.equal(sotw.versionInfo, one.versionInfo)
      assert.equal(sotw.node?.id, one.node?.id)
      assert.equal(sotw.errorDetail?.message, one.errorDetail)
      const delta = fromBinary(DeltaDiscoveryRequestSchema, encodeRequest('delta', one))
      assert.deepEqual(delta.resourceNamesUnsubscribe, one.unsubscribe)
      assert.deepEqual(new Map(Object.entries(delta.initialResourceVersions)), one.initialVersions)
      assert.deepEqual(decodeRequest('delta', encodeRequest('delta', one)), {
        ok: true,
        value: { ...one, versionInfo: '' },
      })
    }),
    { seed: 6, numRuns: 200 },
  )
  t.pass()
})

t.test('responses equal what the generated code decodes, and what our client reads', async (t) => {
  fc.assert(
    fc.property(pushes, text, (push, identifier) => {
      const sotw = whole('sotw', push, identifier)
      const es = fromBinary(DiscoveryResponseSchema, sotw)
      assert.deepEqual([es.versionInfo, es.nonce, es.typeUrl], [push.version, push.nonce, push.typeUrl])
      assert.equal(es.controlPlane?.identifier ?? '', identifier)
      assert.deepEqual(
        es.resources.map((one) => [one.typeUrl, [...one.value]]),
        push.resources.map((one) => [one.anyTypeUrl, [...one.body]]),
      )
      const delta = whole('delta', push, identifier)
      const ed = fromBinary(DeltaDiscoveryResponseSchema, delta)
      assert.deepEqual([ed.systemVersionInfo, ed.nonce, ed.typeUrl], [push.version, push.nonce, push.typeUrl])
      assert.equal(ed.controlPlane?.identifier ?? '', identifier)
      assert.deepEqual(ed.removedResources, push.removed)
      assert.deepEqual(
        ed.resources.map((one) => [
          one.name,
          one.version,
          one.resource?.typeUrl,
          [...(one.resource?.value ?? [])],
        ]),
        push.resources.map((one) => [one.name, one.version, one.anyTypeUrl, [...one.body]]),
      )
      const read = decodeResponse('delta', delta)
      assert.ok(read.ok)
      assert.deepEqual(
        read.value.resources.map((one) => [one.version, ...one.body]),
        push.resources.map((one) => [one.version, ...one.body]),
      )
      assert.deepEqual([read.value.removed, read.value.identifier], [push.removed, identifier])
    }),
    { seed: 7, numRuns: 300 },
  )
  t.pass()
})

const whole = (variant: Variant, push: Content & { nonce: string }, identifier?: string) =>
  Buffer.concat([...encodeContent(variant, push, identifier), encodeNonce(push.nonce)])

t.test('SotW: a resource says its name and gets its hash as version, in an envelope or not', async (t) => {
  for (const resource of [cluster('c'), endpoints('c')]) {
    const push = {
      typeUrl: resource.anyTypeUrl,
      nonce: 'n',
      version: 'v',
      resources: [resource],
      removed: [],
    }
    const read = decodeResponse('sotw', whole('sotw', push))
    t.ok(read.ok)
    if (read.ok) t.match(read.value.resources, [{ name: 'c', version: resource.version }])
    const envelope = {
      name: 'other',
      version: '7',
      resource: { typeUrl: resource.anyTypeUrl, value: resource.body },
    }
    const value = toBinary(ResourceSchema, create(ResourceSchema, envelope))
    const wrapped = create(DiscoveryResponseSchema, {
      resources: [{ typeUrl: 'type.googleapis.com/envoy.service.discovery.v3.Resource', value }],
    })
    const inner = decodeResponse('sotw', toBinary(DiscoveryResponseSchema, wrapped))
    t.ok(inner.ok)
    if (inner.ok)
      t.match(inner.value.resources, [{ name: 'other', version: '7', anyTypeUrl: resource.anyTypeUrl }])
  }
})

t.test('garbage and too much of it are told, never thrown', async (t) => {
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 200 }),
      fc.constantFrom('sotw' as const, 'delta' as const),
      (bytes, variant) => {
        assert.equal(typeof decodeRequest(variant, bytes).ok, 'boolean')
        assert.equal(typeof decodeResponse(variant, bytes).ok, 'boolean')
      },
    ),
    { seed: 8, numRuns: 500 },
  )
  const many = encodeRequest(
    'delta',
    request({ typeUrl: 't', names: Array.from({ length: 11 }, (_, n) => `${n}`) }),
  )
  t.match(decodeRequest('delta', many, { maxNames: 10 }), { ok: false, error: /more than 10 resource names/ })
  const long = encodeRequest('sotw', request({ typeUrl: 't', names: ['x'.repeat(5_000)] }))
  t.match(decodeRequest('sotw', long), { ok: false, error: /5000 characters; at most 4096/ })
  const heavy = encodeRequest(
    'sotw',
    request({ typeUrl: 't', node: { ...NODE, metadata: { k: 'x'.repeat(300_000) } } }),
  )
  t.match(decodeRequest('sotw', heavy), { ok: false, error: /node.metadata of \d+ bytes/ })
})

t.test('an EDS cluster names the endpoints it waits for', async (t) => {
  t.equal(endpointsOf(cluster('c')), 'c')
  const other = create(ClusterSchema, {
    name: 'c',
    clusterDiscoveryType: { case: 'type', value: 3 },
    edsClusterConfig: { serviceName: 's' },
  })
  t.equal(endpointsOf(rawResource('c', 't', toBinary(ClusterSchema, other))), 's')
  t.equal(
    endpointsOf(rawResource('c', 't', toBinary(ClusterSchema, create(ClusterSchema, { name: 'c' })))),
    undefined,
  )
  t.equal(endpointsOf(rawResource('c', 't', Buffer.from('garbage'))), undefined)
})
