import fc from 'fast-check'
import t from 'tap'
import { formatServerName, parseServerName } from '../../src/model/server-name.ts'

const SEED = { seed: 15443, numRuns: 500 }
const edge = fc.constantFrom(...'abcxyz019')
const inner = fc.string({ unit: fc.constantFrom(...'abcxyz019-'), maxLength: 20 })
const label = fc.oneof(
  edge,
  fc.tuple(edge, inner, edge).map((parts) => parts.join('')),
)
const serverName = fc.record({
  port: fc.integer({ min: 1, max: 65_535 }),
  subset: fc.oneof(fc.constant(''), label),
  host: fc.array(label, { minLength: 1, maxLength: 7 }).map((labels) => labels.join('.')),
})

t.test('parse is the inverse of format', async (t) => {
  fc.assert(
    fc.property(serverName, (name) => {
      const parsed = parseServerName(formatServerName(name))
      t.same(parsed, { ok: true, value: name })
    }),
    { ...SEED, numRuns: 200 },
  )
})

t.test(
  'a name that is too long has an alias: it parses, fits, ends as the host does, and is nobody else’s',
  async (t) => {
    const long = fc.record({
      port: fc.integer({ min: 1, max: 65_535 }),
      subset: fc.oneof(
        fc.constant(''),
        fc.constantFrom('v1', 's'.repeat(62), 's'.repeat(63), `${'s'.repeat(62)}t`),
      ),
      host: fc
        .array(fc.constantFrom('a'.repeat(63), 'b'.repeat(40), `c${'-'.repeat(61)}c`, 'd'), {
          minLength: 1,
          maxLength: 7,
        })
        .map((labels) => labels.join('.'))
        .filter((host) => host.length <= 253),
    })
    const seen = new Map<string, string>()
    fc.assert(
      fc.property(long, (name) => {
        const text = formatServerName(name)
        const parsed = parseServerName(text)
        const spelt = `${name.port} ${name.subset} ${name.host}`
        const other = seen.get(text)
        seen.set(text, spelt)
        const plain = `outbound_.${name.port}_.${name.subset}_.${name.host}`
        const fits = plain.length <= 255 && name.subset.length <= 62
        return (
          parsed.ok &&
          parsed.value.port === name.port &&
          (other === undefined || other === spelt) &&
          (fits ? text === plain : text !== plain && text.endsWith(name.host.split('.').at(-1) ?? ''))
        )
      }),
      { ...SEED, numRuns: 1_000 },
    )
    t.equal(
      formatServerName({
        port: 9080,
        subset: '',
        host: `${'a'.repeat(63)}.${'b'.repeat(63)}.${'c'.repeat(63)}.${'d'.repeat(61)}`,
      }),
      `outbound_.9080_._.5fcf065db59c137eba6d13fbb5f4627b.${'b'.repeat(63)}.${'c'.repeat(63)}.${'d'.repeat(61)}`,
      'and it is the same in every version',
    )
  },
)

t.test('what parse accepts is the one spelling that format writes', async () => {
  const near = fc
    .tuple(
      fc.constantFrom('outbound', 'inbound', ''),
      fc.constantFrom('80', '080', '+80', '8e1', '0', '65536', ' 80'),
      fc.constantFrom('', 'v1', 'V1', 'v_1', '-'),
      fc.constantFrom('a.b', 'a..b', 'a.b.', 'A.b', 'a_.b', '-a', '', '*.b'),
    )
    .map((parts) => parts.join('_.'))
  fc.assert(
    fc.property(fc.oneof(near, fc.string({ unit: 'binary', maxLength: 300 })), (text) => {
      const parsed = parseServerName(text)
      return !parsed.ok || formatServerName(parsed.value) === text
    }),
    SEED,
  )
})

t.test('accepts', async (t) => {
  t.same(parseServerName('outbound_.9080_._.productpage.bookinfo.svc.cluster.local'), {
    ok: true,
    value: { port: 9080, subset: '', host: 'productpage.bookinfo.svc.cluster.local' },
  })
  t.same(parseServerName('outbound_.1_.v2_.a'), { ok: true, value: { port: 1, subset: 'v2', host: 'a' } })
  t.ok(parseServerName(`outbound_.65535_._.${'a'.repeat(63)}.b`).ok)
})

t.test('refuses', async (t) => {
  const bad: Readonly<Record<string, string>> = {
    'an empty name': '',
    'a plain host': 'productpage.bookinfo.svc.cluster.local',
    'port zero': 'outbound_.0_._.a.b',
    'a leading zero': 'outbound_.080_._.a.b',
    'a port over 65535': 'outbound_.65536_._.a.b',
    'a port that is no number': 'outbound_.http_._.a.b',
    'a sign': 'outbound_.+80_._.a.b',
    'an exponent': 'outbound_.1e3_._.a.b',
    hexadecimal: 'outbound_.0x50_._.a.b',
    'no port': 'outbound_._._.a.b',
    'upper case in the host': 'outbound_.80_._.A.b',
    'upper case in the subset': 'outbound_.80_.V1_.a.b',
    'another direction': 'inbound_.80_._.a.b',
    'upper case in the direction': 'Outbound_.80_._.a.b',
    'a trailing dot': 'outbound_.80_._.a.b.',
    'an empty label': 'outbound_.80_._.a..b',
    'no host': 'outbound_.80_._.',
    'a wildcard': 'outbound_.80_._.*.b',
    'five parts': 'outbound_.80_._.a_.b',
    'three parts': 'outbound_.80_.a.b',
    'a label of 64': `outbound_.80_._.${'a'.repeat(64)}.b`,
    'a subset of 63, with its underscore a label of 64': `outbound_.80_.${'a'.repeat(63)}_.b`,
    'a name over 255': `outbound_.80_._.${'abcdefg.'.repeat(31)}a`,
    'a NUL': 'outbound_.80_._.a\0.b',
    'a letter beyond ASCII': 'outbound_.80_._.ä.b',
    'a hyphen at the end': 'outbound_.80_._.a-.b',
  }
  for (const [what, text] of Object.entries(bad)) t.notOk(parseServerName(text).ok, what)
})

t.test('a hostile name costs linear time', async (t) => {
  const started = process.cpuUsage().user
  for (const unit of ['_.', 'a.', '-', 'outbound_.', '0'])
    parseServerName(unit.repeat(2_000_000 / unit.length))
  t.ok(process.cpuUsage().user - started < 500_000, 'half a second of CPU is not spent on megabytes')
})
