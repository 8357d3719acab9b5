import fc from 'fast-check'
import t from 'tap'
import { type BindRange, bindAddresses, parseBindRange } from '../../src/resources/bind-address.ts'

const SEED = 20_261_123

function range(cidr: string): BindRange {
  const parsed = parseBindRange(cidr)
  if (!parsed.ok) throw new Error(parsed.error)
  return parsed.value
}

t.test('every host has its own address inside the range, whatever the order', async () => {
  const hosts = fc.uniqueArray(fc.domain(), { maxLength: 60 })
  fc.assert(
    fc.property(hosts, fc.constantFrom('127.240.0.0/16', '10.1.2.0/24', '10.1.2.128/26'), (names, cidr) => {
      const { first, size } = range(cidr)
      const found = bindAddresses(names, range(cidr))
      const numbers = [...found.values()].map((text) =>
        text.split('.').reduce((sum, part) => sum * 256 + Number(part), 0),
      )
      const inside = numbers.every((number) => number > first && number < first + size - 1)
      const again = bindAddresses(names.toReversed(), range(cidr))
      const same = [...found].every(([host, address]) => again.get(host) === address)
      return inside && same && new Set(numbers).size === names.length
    }),
    { seed: SEED, numRuns: 100 },
  )
})

t.test('an address stays when other hosts come and go, unless their hashes meet', async (t) => {
  const one = bindAddresses(['productpage.bookinfo.svc.cluster.local'], range('127.240.0.0/16'))
  const many = bindAddresses(
    ['a', 'b', 'c', 'productpage.bookinfo.svc.cluster.local', 'z'],
    range('127.240.0.0/16'),
  )
  const host = 'productpage.bookinfo.svc.cluster.local'
  t.equal(many.get(host), one.get(host))
})

t.test('a full range gives none to the rest', async (t) => {
  const found = bindAddresses(['a', 'b', 'c', 'd'], range('10.0.0.0/30'))
  t.strictSame([...found.values()].sort(), ['10.0.0.1', '10.0.0.2'])
})

t.test('what is no range is refused with the reason', async (t) => {
  for (const text of [
    '',
    '127.240.0.0',
    '127.240.0.0/31',
    '127.240.0.0/7',
    '::1/64',
    '300.0.0.0/16',
    '127.240.0.0/016x',
  ]) {
    t.match(parseBindRange(text), { ok: false, error: /expected an IPv4 range/ }, text)
  }
  t.match(parseBindRange('127.240.1.0/16'), { ok: false, error: /begins at 127\.240\.0\.0/ })
})
