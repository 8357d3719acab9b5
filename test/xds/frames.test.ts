// One encoding for many streams: what is shared, what is not, and that the sum is a gRPC message.
import assert from 'node:assert/strict'
import fc from 'fast-check'
import t from 'tap'
import { decodeResponse } from '../../src/xds/codec-response.ts'
import { nonceOf, nonceTail, sharedFrame } from '../../src/xds/frames.ts'
import { MessageReader } from '../../src/xds/grpc.ts'
import type { Push, Variant } from '../../src/xds/messages.ts'
import { byName, plain } from './fixtures.ts'

const view = byName(plain('a', '1'), plain('b', '1'), plain('c', '1'))
const [a, b, c] = [...view.values()]
assert.ok(a && b && c)

function push(fields: Partial<Push> = {}): Push {
  return {
    typeUrl: 't',
    version: 'v',
    nonce: nonceOf(1),
    resources: [a, b, c] as never,
    removed: [],
    view,
    ...fields,
  }
}

t.test(
  'streams that push the same from the same state share one buffer, whatever their nonces',
  async (t) => {
    for (const variant of ['sotw', 'delta'] as const) {
      const first = sharedFrame(variant, push(), 'me')
      t.equal(sharedFrame(variant, push({ nonce: nonceOf(77), resources: [a, b, c] as never }), 'me'), first)
      const others = [
        sharedFrame(variant === 'sotw' ? 'delta' : 'sotw', push(), 'me'),
        sharedFrame(variant, push(), 'somebody else'),
        sharedFrame(variant, push({ version: 'w' }), 'me'),
        sharedFrame(variant, push({ typeUrl: 'u' }), 'me'),
        sharedFrame(variant, push({ resources: [a, b] as never }), 'me'),
        sharedFrame(variant, push({ removed: ['gone'] }), 'me'),
        sharedFrame(variant, push({ view: new Map(view) }), 'me'),
      ]
      t.notOk(others.includes(first))
      t.equal(sharedFrame(variant, push(), 'me'), first, 'and the others have not displaced it')
    }
  },
)

t.test('whoever lags behind in many different ways displaces no more than a few', async (t) => {
  const first = sharedFrame('delta', push(), '')
  for (let n = 0; n < 100; n++) {
    sharedFrame('delta', push({ removed: [`straggler ${n}`] }), '')
    if (n % 5 === 0) t.equal(sharedFrame('delta', push(), ''), first, 'what many send stays')
  }
})

t.test('with its tail a frame is one gRPC message, for any content and nonce', async (t) => {
  fc.assert(
    fc.property(
      fc.constantFrom<Variant>('sotw', 'delta'),
      fc.subarray([...view.values()]),
      fc.array(fc.string(), { maxLength: 3 }),
      fc.nat(),
      fc.string(),
      (variant, resources, removed, n, identifier) => {
        const one = push({ resources, removed, nonce: nonceOf(n) })
        const bytes = Buffer.concat([sharedFrame(variant, one, identifier), nonceTail(one.nonce)])
        const messages = new MessageReader(1_000_000).push(bytes)
        assert.ok(messages.ok && messages.value.length === 1)
        const read = decodeResponse(variant, messages.value[0] as Buffer)
        assert.ok(read.ok)
        assert.equal(read.value.nonce, one.nonce)
        assert.equal(read.value.identifier, identifier)
        assert.deepEqual(
          read.value.resources.map(({ body }) => Buffer.from(body)),
          resources.map(({ body }) => Buffer.from(body)),
        )
        assert.deepEqual(read.value.removed, variant === 'delta' ? removed : [])
      },
    ),
    { seed: 21, numRuns: 200 },
  )
  t.not(nonceOf(1), nonceOf(2))
  t.equal(nonceOf(36 ** 8 + 1), nonceOf(1))
  t.throws(() => nonceTail('short'), /nonce "short"/)
})
