import fc from 'fast-check'
import t from 'tap'
import {
  encodePage,
  PAGES,
  type PackedUpstream,
  placeOf,
  UpstreamPage,
} from '../../src/proxy/upstream-page.ts'

const bytes = (text: string) => new Uint8Array(Buffer.from(text))
const packed = (name: string, endpoints = true): PackedUpstream => ({
  cluster: { name, version: `v of ${name}`, body: bytes(`cluster ${name}`) },
  endpoints: endpoints ? { name: `e ${name}`, version: 'e1', body: bytes(`endpoints ${name}`) } : undefined,
})
const pageOf = (names: readonly string[], aliases: ReadonlyMap<string, readonly string[]> = new Map()) => ({
  upstreams: new Map(names.map((name, i) => [name, packed(name, i % 3 !== 0)])),
  aliases,
  secrets: ['ROOTCA', 'default'],
})
const plain = ({ cluster, endpoints }: PackedUpstream) =>
  [cluster, endpoints].map((one) => one && [one.name, one.version, Buffer.from(one.body).toString()])

const byCode = (a: string, b: string) => (a < b ? -1 : 1)
const name = fc.string({ minLength: 1, maxLength: 40, unit: 'grapheme' })

t.test('what is packed is found by each of its names, and nothing else is', async (t) => {
  fc.assert(
    fc.property(
      fc.uniqueArray(name, { minLength: 1, maxLength: 30 }),
      fc.dictionary(name, fc.uniqueArray(name, { minLength: 1, maxLength: 3 })),
      fc.array(name),
      (names, claims, others) => {
        const aliases = new Map(Object.entries(claims).map(([alias, all]) => [alias, all.toSorted()]))
        const content = pageOf(names, aliases)
        const page = new UpstreamPage(encodePage(content))
        const read = page.read()
        t.same(
          [...read.upstreams].map(([, one]) => plain(one)),
          names.toSorted(byCode).map((one) => plain(content.upstreams.get(one) as PackedUpstream)),
        )
        for (const each of [...names, ...aliases.keys(), ...others]) {
          const expected = content.upstreams.has(each) ? [each] : (aliases.get(each) ?? [])
          t.same(page.find(each), expected)
          t.same(page.find(each), expected, 'and the second time')
        }
        t.same(page.secrets, content.secrets)
      },
    ),
    { numRuns: 100 },
  )
})

t.test('the same content is the same bytes, in whatever order it came', async (t) => {
  const [names, aliases] = [
    ['c', 'a', 'b'],
    new Map([
      ['x', ['b', 'a']],
      ['w', ['c']],
    ]),
  ]
  const one = pageOf(names, aliases)
  const other = {
    upstreams: new Map([...one.upstreams].reverse()),
    aliases: new Map([...aliases].reverse().map(([alias, all]) => [alias, all.toReversed()])),
    secrets: one.secrets.toReversed(),
  }
  t.same(encodePage(one), encodePage(other))
})

t.test('bytes that are no page are refused, not read past their end', async (t) => {
  const good = encodePage(pageOf(['a', 'b']))
  for (const bad of [new Uint8Array(), bytes('x'), good.subarray(0, 20), new Uint8Array(64).fill(255)])
    t.throws(() => new UpstreamPage(bad))
})

t.test('names of services are spread over all pages', async (t) => {
  const counts = new Array<number>(PAGES).fill(0)
  const each = 20
  for (let i = 0; i < each * PAGES; i++) {
    const { page } = placeOf(`outbound_.9080_._.service-${i}.ns-${i % 200}.svc.cluster.local`)
    counts[page] = (counts[page] ?? 0) + 1
  }
  t.ok(Math.max(...counts) < 3 * each, `the fullest has ${Math.max(...counts)}`)
  t.ok(Math.min(...counts) > 0)
})
