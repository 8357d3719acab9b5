import fc from 'fast-check'
import t from 'tap'
import { isLoopback } from '../../src/lib/loopback.ts'
import { formatAuthority, parseAuthority } from '../../src/proxy/names/authority.ts'
import { NameTable } from '../../src/proxy/names/name-table.ts'
import { parseResolvConf } from '../../src/proxy/names/resolv-conf.ts'

t.test('authorities: what is written is read back', async (t) => {
  const host = fc.oneof(fc.ipV4(), fc.ipV6(), fc.domain(), fc.constant('productpage.bookinfo'))
  fc.assert(
    fc.property(host, fc.nat(65_535), (host, port) => {
      const parsed = parseAuthority(formatAuthority({ host, port }))
      return parsed.ok && parsed.value.host === host && parsed.value.port === port
    }),
    { seed: 11 },
  )
  t.same(parseAuthority('127.0.0.1', 53), { ok: true, value: { host: '127.0.0.1', port: 53 } })
  t.same(parseAuthority('::1', 53), { ok: true, value: { host: '::1', port: 53 } })
  const bad = [
    '',
    ':80',
    'a',
    'a:',
    'a:65536',
    'a:1:2',
    '::1:80',
    '[::1',
    '[x]:1',
    'user@a:1',
    'a b:1',
    'a/b:1',
    '-a:1',
    'é:1',
  ]
  for (const text of bad) t.notOk(parseAuthority(text).ok, text)
})

t.test('loopback is loopback only', async (t) => {
  for (const host of ['127.0.0.1', '127.240.3.7', '::1', 'localhost']) t.ok(isLoopback(host), host)
  for (const host of ['0.0.0.0', '::', '10.0.0.1', '128.0.0.1', '127.0.0.1.example.com', ''])
    t.notOk(isLoopback(host), host)
})

t.test('resolv.conf: three name servers at most, other lines skipped', async (t) => {
  const text =
    '# made by hand\nsearch svc.cluster.local\nnameserver 10.0.0.10\n nameserver\t::1 \nnameserver x y\noptions ndots:5\n'
  t.same(parseResolvConf(text), [
    { host: '10.0.0.10', port: 53 },
    { host: '::1', port: 53 },
  ])
  t.equal(parseResolvConf('nameserver 10.0.0.1\n'.repeat(5)).length, 3)
})

t.test('the name table forgets what the next one does not hold', async (t) => {
  const names = new NameTable()
  names.set(new Map([['A.example.', ['127.0.0.1']]]))
  t.same(names.lookup('a.EXAMPLE'), ['127.0.0.1'])
  names.set(new Map([['b.example', []]]))
  t.equal(names.lookup('a.example'), undefined)
  t.same(names.lookup('b.example'), [], 'ours, without an address')
  t.equal(names.size, 1)
})
