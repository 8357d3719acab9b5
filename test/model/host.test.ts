import t from 'tap'
import { hostCandidates, isDnsName, parseServiceHost, serviceHost } from '../../src/model/host.ts'

t.test('a service host and back', async (t) => {
  t.equal(serviceHost('reviews', 'bookinfo'), 'reviews.bookinfo.svc.cluster.local')
  t.same(parseServiceHost('reviews.bookinfo.svc.cluster.local'), { name: 'reviews', namespace: 'bookinfo' })
  t.same(parseServiceHost('web-0.web.shop.svc.cluster.local'), { name: 'web-0.web', namespace: 'shop' })
  for (const other of [
    'reviews.bookinfo',
    'a.b.c.d.svc.cluster.local',
    'a..c.svc.cluster.local',
    '.b.svc.cluster.local',
    'svc.cluster.local',
    'example.com',
  ]) {
    t.equal(parseServiceHost(other), undefined, other)
  }
})

t.test('short names mean the full one', async (t) => {
  const full = 'productpage.bookinfo.svc.cluster.local'
  for (const text of [
    'productpage.bookinfo',
    'ProductPage.bookinfo.',
    'productpage.bookinfo.svc',
    full,
    `${full}.`,
  ]) {
    t.equal(hostCandidates(text).at(-1), full, text)
  }
  t.same(hostCandidates('example.com')[0], 'example.com', 'a host of two labels may also be itself')
  t.same(hostCandidates('a.b.example.com'), ['a.b.example.com'])
  const pod = 'web-0.web.shop.svc.cluster.local'
  for (const text of ['web-0.web.shop', 'web-0.web.shop.svc', pod])
    t.equal(hostCandidates(text).at(-1), pod, text)
})

t.test('DNS names', async (t) => {
  for (const good of ['a', 'a.b', '1.a', 'a-b.c', 'a'.repeat(63)]) t.ok(isDnsName(good), good)
  for (const bad of ['', '.', 'a.', '.a', '-a', 'a-', 'A', 'a_b', '*.a', 'a'.repeat(64), 'a.'.repeat(127)])
    t.notOk(isDnsName(bad), bad)
})
