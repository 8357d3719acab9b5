import assert from 'node:assert/strict'
import fc from 'fast-check'
import t from 'tap'
import { MessageReader, messagePrefix, trailersOf } from '../../src/xds/grpc.ts'

t.test('messages come out whole however the bytes are cut', async (t) => {
  fc.assert(
    fc.property(
      fc.array(fc.uint8Array({ maxLength: 40 })),
      fc.array(fc.integer({ min: 1, max: 20 }), { minLength: 1 }),
      (all, cuts) => {
        const bytes = Buffer.concat(all.flatMap((one) => [messagePrefix(one.length), one]))
        const reader = new MessageReader(100)
        const got: Buffer[] = []
        for (let at = 0, turn = 0; at < bytes.length; turn++) {
          const size = cuts[turn % cuts.length] ?? 1
          const messages = reader.push(bytes.subarray(at, at + size))
          assert.ok(messages.ok)
          got.push(...messages.value)
          at += size
        }
        assert.deepEqual(
          got.map((one) => [...one]),
          all.map((one) => [...one]),
        )
      },
    ),
    { seed: 9, numRuns: 300 },
  )
  t.pass()
})

t.test('too long and compressed messages are refused by their prefix', async (t) => {
  t.match(new MessageReader(100).push(messagePrefix(101)), { ok: false, error: { code: 8 } })
  t.match(new MessageReader(100).push(Buffer.from([1, 0, 0, 0, 0])), { ok: false, error: { code: 12 } })
})

t.test('grpc-message is percent-encoded and bounded', async (t) => {
  t.same(trailersOf({ code: 3, message: 'nö 100%\n' }), {
    'grpc-status': '3',
    'grpc-message': 'n%C3%B6 100%25%0A',
  })
  t.ok((trailersOf({ code: 3, message: 'x'.repeat(10_000) })['grpc-message'] ?? '').length < 1_100)
})
