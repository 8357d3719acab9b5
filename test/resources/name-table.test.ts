import { BinaryWriter } from '@bufbuild/protobuf/wire'
import t from 'tap'
import { decodeNameTable, encodeNameTable } from '../../src/resources/name-table.ts'

const info = { ips: ['127.240.1.2'], shortname: 'productpage', namespace: 'bookinfo' }

t.test('a table is read back', async (t) => {
  const { body, anyTypeUrl } = encodeNameTable({
    'productpage.bookinfo': info,
    other: { ...info, ips: ['1.2.3.4', '::1'] },
  })
  t.equal(anyTypeUrl, 'type.googleapis.com/istio.networking.nds.v1.NameTable')
  t.strictSame(Object.fromEntries(decodeNameTable(body)), {
    'productpage.bookinfo': ['127.240.1.2'],
    other: ['1.2.3.4', '::1'],
  })
})

t.test('the bytes are those of nds.proto', async (t) => {
  const { body } = encodeNameTable({ a: { ips: ['1'], shortname: '', namespace: '' } })
  // table = 1 { key = 1 "a", value = 2 { ips = 1 "1", registry = 2 "External" } }
  t.equal(
    Buffer.from(body).toString('hex'),
    `0a120a0161120d0a01311208${Buffer.from('External').toString('hex')}`,
  )
})

t.test('equal tables have equal versions, whatever their order', async (t) => {
  const one = encodeNameTable({ a: info, b: info })
  t.equal(encodeNameTable({ b: info, a: info }).version, one.version)
  t.not(encodeNameTable({ a: info }).version, one.version)
})

t.test('unknown fields are skipped', async (t) => {
  const { body } = encodeNameTable({ a: info })
  const more = new BinaryWriter().tag(9, 2).string('later').finish()
  t.strictSame(Object.fromEntries(decodeNameTable(Buffer.concat([more, body, more]))), { a: ['127.240.1.2'] })
  t.throws(() => decodeNameTable(Buffer.from([0x0a, 0xff])))
})
