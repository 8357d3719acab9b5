import t from 'tap'
import { decodeRequest, encodeRequest } from '../../src/xds/codec-request.ts'
import { Interest } from '../../src/xds/interest.ts'
import type { Variant, XdsRequest } from '../../src/xds/messages.ts'

const NAMES = Array.from({ length: 100 }, (_, i) => `outbound|80||service-${i}.ns.svc.cluster.local`)

function request(names: readonly string[], more: Partial<XdsRequest> = {}): XdsRequest {
  return {
    typeUrl: 'type',
    node: undefined,
    versionInfo: '',
    names,
    unsubscribe: [],
    initialVersions: new Map(),
    responseNonce: '',
    errorDetail: undefined,
    ...more,
  }
}

function decoded(variant: Variant, asked: XdsRequest): XdsRequest {
  const result = decodeRequest(variant, encodeRequest(variant, asked))
  if (!result.ok) throw new Error(result.error)
  return result.value
}

t.test('who asks for the same long list of names shares it, in either variant', async (t) => {
  for (const variant of ['delta', 'sotw'] as const) {
    const [first, second] = [decoded(variant, request(NAMES)), decoded(variant, request(NAMES))]
    t.same(first.names, NAMES)
    t.equal(second.names, first.names, variant)
  }
  const other = decoded('delta', request([...NAMES.slice(1), 'one more']))
  t.same(other.names, [...NAMES.slice(1), 'one more'])
  t.same(decoded('delta', request(NAMES, { unsubscribe: ['x'], responseNonce: '1' })), {
    ...request(NAMES, { unsubscribe: ['x'], responseNonce: '1' }),
  })
})

t.test('names that stand apart from the list, as an encoder may put them, are not lost', async (t) => {
  const list = encodeRequest('delta', request(NAMES))
  const apart = Buffer.concat([list, encodeRequest('delta', request(['apart']))])
  for (let time = 0; time < 2; time++) {
    const result = decodeRequest('delta', apart)
    t.same(result.ok && result.value.names, [...NAMES, 'apart'])
  }
  t.same(decoded('delta', request(NAMES)).names, NAMES, 'and are not added to the shared list')
})

t.test('limits hold for a list that was read before', async (t) => {
  const bytes = encodeRequest('delta', request(NAMES))
  t.ok(decodeRequest('delta', bytes).ok)
  t.match(decodeRequest('delta', bytes, { maxNames: 99 }), { ok: false, error: /more than 99/ })
  for (let cut = bytes.length - 1; cut > bytes.length - 60; cut--)
    decodeRequest('delta', bytes.subarray(0, cut))
  const long = [...NAMES, 'x'.repeat(5_000)]
  for (let time = 0; time < 2; time++)
    t.match(decodeRequest('delta', encodeRequest('delta', request(long))), {
      ok: false,
      error: /5000 characters/,
    })
})

t.test('a stream that changes what it wants does so for itself alone', async (t) => {
  const { names } = decoded('delta', request(NAMES))
  const [one, two] = [new Interest(false), new Interest(false)]
  t.equal(one.update(names, []).asked, names)
  two.update(names, [])
  t.equal(one.names, two.names, 'they share one set')
  one.update(['mine'], [NAMES[0] as string])
  t.same([one.covers('mine'), one.covers(NAMES[0] as string)], [true, false])
  t.same([two.covers('mine'), two.covers(NAMES[0] as string)], [false, true])
  t.same([two.names.size, new Set(NAMES)], [NAMES.length, two.names])
})
