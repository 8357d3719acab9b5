// The reader of certificates takes bytes from strangers: whatever they are it answers, and no changed leaf verifies.
import fc from 'fast-check'
import t from 'tap'
import { parseCertificate } from '../../src/identity/certificate.ts'
import { readDer } from '../../src/identity/der.ts'
import { parsePem } from '../../src/identity/pem.ts'
import { TrustBundle, TrustBundles } from '../../src/identity/trust-bundle.ts'
import { verifySvid } from '../../src/identity/verify-svid.ts'
import * as m from './mint.ts'

const SEED = 20261123
const ID = 'spiffe://c1.example/ns/bookinfo/sa/sleep'
const root = m.mintRoot('root')
const leaf = m.mintLeaf(root, ID, { names: [m.dnsName('a.example'), m.uriName(ID)] }).der
const parsed = TrustBundle.parse('c1.example', root.pem, 'ca.crt')
if (!parsed.ok) throw new Error(parsed.error.message)
const bundles = new TrustBundles([parsed.value])
const now = Date.now()
const accepts = (der: Uint8Array): boolean => verifySvid(der, bundles, now).ok

t.equal(accepts(leaf), true, 'the leaf itself verifies, so that the properties below mean something')

t.test('every single changed byte is noticed', async (t) => {
  let refused = 0
  for (let at = 0; at < leaf.length; at++) {
    for (const flip of [0x01, 0x80, 0xff]) {
      const changed = Uint8Array.from(leaf)
      changed[at] = (changed[at] ?? 0) ^ flip
      if (accepts(changed)) t.fail(`byte ${at} ^ ${flip} still verifies`)
      refused += 1
    }
  }
  t.equal(refused, leaf.length * 3)
})

t.test('every prefix, and anything after the end, is refused', async (t) => {
  for (let length = 0; length < leaf.length; length++) {
    if (parseCertificate(leaf.subarray(0, length)).ok) t.fail(`a prefix of ${length} bytes is read`)
  }
  t.notOk(accepts(m.bytes(leaf, 0)))
  t.notOk(accepts(m.bytes(leaf, leaf)))
})

/** Cuts, repeats, moves and overwrites: what makes lengths lie. */
const mutation = fc.record({
  at: fc.nat(leaf.length - 1),
  remove: fc.nat(8),
  insert: fc.uint8Array({ maxLength: 8 }),
})

t.test('mutated leaves never verify and never throw', async (t) => {
  fc.assert(
    fc.property(fc.array(mutation, { minLength: 1, maxLength: 4 }), (mutations) => {
      let bytes: Uint8Array = leaf
      for (const { at, remove, insert } of mutations) {
        bytes = m.bytes(bytes.subarray(0, at), insert, bytes.subarray(at + remove))
      }
      return Buffer.compare(bytes, leaf) === 0 || !accepts(bytes)
    }),
    { seed: SEED, numRuns: 5000 },
  )
  t.pass('5,000 runs')
})

t.test('elements spelled longer than need be never verify', async (t) => {
  // The same certificate in BER: the outer length in one byte more, an indefinite length.
  const body = leaf.subarray(4)
  t.notOk(accepts(m.bytes(0x30, 0x83, 0, leaf[2] ?? 0, leaf[3] ?? 0, body)))
  t.notOk(accepts(m.bytes(0x30, 0x80, body, 0, 0)))
})

t.test('random bytes and random trees never throw', async (t) => {
  const tree = fc.letrec<{ node: Uint8Array; leaf: Uint8Array; branch: Uint8Array }>((tie) => ({
    node: fc.oneof({ depthSize: 'small' }, tie('leaf'), tie('branch')),
    leaf: fc
      .tuple(fc.nat(255), fc.uint8Array({ maxLength: 40 }))
      .map(([tag, content]) => m.der(tag, content)),
    branch: fc
      .tuple(fc.constantFrom(0x30, 0x31, 0xa0, 0xa3), fc.array(tie('node'), { maxLength: 8 }))
      .map(([tag, items]) => m.der(tag, ...items)),
  })).node
  fc.assert(
    fc.property(fc.oneof(fc.uint8Array({ maxLength: 600 }), tree), (bytes) => !parseCertificate(bytes).ok),
    { seed: SEED, numRuns: 5000 },
  )
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 400 }), (text) => {
      parsePem(text)
      parsePem(`-----BEGIN CERTIFICATE-----\n${text}\n-----END CERTIFICATE-----\n`)
      return true
    }),
    { seed: SEED },
  )
  t.pass('nothing threw')
})

t.test('leaves whose extensions are garbage never verify and never throw', async (t) => {
  const oid = fc.constantFrom('2.5.29.15', '2.5.29.17', '2.5.29.19', '2.5.29.30', '2.5.29.37')
  const value = fc.oneof(
    fc.uint8Array({ maxLength: 20 }),
    fc.uint8Array({ maxLength: 20 }).map((b) => m.sequence(b)),
  )
  fc.assert(
    fc.property(oid, fc.boolean(), value, (id, critical, bytes) => {
      // The extension stands twice, or its garbage stands alone: both are refused for a reason.
      const der = m.mintLeaf(root, ID, { more: [m.extension(id, critical, bytes)] }).der
      return !accepts(der) || id === '2.5.29.30'
    }),
    { seed: SEED, numRuns: 300 },
  )
  t.pass('300 certificates')
})

t.test('elements', async (t) => {
  const read = <T>(bytes: number[], reader: Parameters<typeof readDer<T>>[1]) =>
    readDer(Uint8Array.from(bytes), reader)
  t.same(
    read([6, 3, 0x2a, 3, 4], (r) => r.oid()),
    { ok: true, value: '1.2.3.4' },
  )
  t.same(read([6, 1, 0x88], (r) => r.oid()).ok, false, 'an OID that is cut off')
  t.same(read([6, 2, 0x80, 1], (r) => r.oid()).ok, false, 'an OID with padding')
  t.same(
    read([2, 2, 0x01, 0x00], (r) => r.smallInteger()),
    { ok: true, value: 256 },
  )
  t.same(read([2, 2, 0x00, 0x01], (r) => r.integer()).ok, false, 'an integer with padding')
  t.same(read([2, 1, 0x80], (r) => r.smallInteger()).ok, false, 'a negative integer')
  t.same(read([1, 1, 0x01], (r) => r.boolean()).ok, false, 'a boolean that is neither')
  t.same(read([3, 2, 9, 0], (r) => r.bitString()).ok, false)
  t.same(read([3, 2, 4, 0x0f], (r) => r.bitString()).ok, false, 'padding bits that are set')
  const at = (tag: number, text: string) => readDer(m.text(tag, text), (r) => r.time())
  t.same(at(0x17, '261123000000Z'), { ok: true, value: Date.UTC(2026, 10, 23) })
  t.same(at(0x17, '500101000000Z'), { ok: true, value: Date.UTC(1950, 0, 1) })
  t.same(at(0x18, '20500101000000Z'), { ok: true, value: Date.UTC(2050, 0, 1) })
  for (const text of [
    '20260230000000Z',
    '20261301000000Z',
    '20260101240000Z',
    '20260101000000',
    '20260101000000+0100',
  ]) {
    t.notOk(at(0x18, text).ok, text)
  }
})
