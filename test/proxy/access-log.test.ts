import fc from 'fast-check'
import t from 'tap'
import type { AccessLogEntry } from '../../src/proxy/access-log.ts'
import { accessLogFormatter } from '../../src/proxy/access-log-format.ts'
import { parseUpstreamName } from '../../src/proxy/upstream-name.ts'
import { ENTRY } from './access-log-entry.ts'

const LABELS = { name: 'gateway', cluster: 'cluster-1' }
/** PIPE_BUF: a line is at most this long, so that processes that share a pipe do not mix theirs. */
const LONGEST_LINE = 4_096

const json = accessLogFormatter('json', LABELS) as NonNullable<ReturnType<typeof accessLogFormatter>>
const text = accessLogFormatter('text', LABELS) as typeof json

t.test('JSON: every field, in the shape of the other lines of the process', async (t) => {
  const { time, ...fields } = ENTRY
  t.same(JSON.parse(json(ENTRY, Date.parse('2026-01-02T03:04:06.000Z'))), {
    level: 'info',
    time: '2026-01-02T03:04:06.000Z',
    name: 'gateway',
    cluster: 'cluster-1',
    acceptedAt: time,
    ...fields,
    msg: 'access',
  })
})

t.test('text: columns for people, and the rest by name', async (t) => {
  t.equal(
    text(ENTRY, 0),
    '2026-01-02T03:04:05.678Z OK 10.0.0.1:50000 spiffe://cluster-1.example/ns/bookinfo/sa/sleep -> ' +
      'productpage.bookinfo.svc.cluster.local:9080 10.0.0.2:9080 12ms 5/7 listener=eastwest ' +
      'sni=outbound_.9080_._.productpage.bookinfo.svc.cluster.local peerTrustDomain=cluster-1.example caller=verified ' +
      'alpn=istio tlsVersion=TLSv1.3 rule=everyone connectMs=1 handshakeMs=3 reason="both sides ended"\n',
  )
  t.equal(accessLogFormatter('off', LABELS), undefined)
})

t.test('whatever is in a field, a line stays one line of ASCII below 4 KiB, and JSON', async () => {
  const any = fc.oneof(
    fc.string({ unit: 'binary', maxLength: 3_000 }),
    fc
      .constantFrom('\n', '\u001b[2J', '\u009b', '","flag":"-', '\u2028', '\ud800', '\\', ' ', '=')
      .map((part) => part.repeat(700)),
  )
  const record = Object.fromEntries(
    Object.entries(ENTRY).map(([key, value]) => [
      key,
      typeof value === 'string' && key !== 'time' && key !== 'flag' ? any : fc.constant(value),
    ]),
  )
  fc.assert(
    fc.property(fc.record(record), (entry) => {
      for (const format of [json, text]) {
        const line = format(entry as unknown as AccessLogEntry, 0)
        if (!/^[ -~]*\n$/.test(line)) return false
        if (line.length > LONGEST_LINE) return false
      }
      const parsed = JSON.parse(json(entry as unknown as AccessLogEntry, 0)) as AccessLogEntry
      return parsed.flag === '-' && Object.keys(parsed).length === Object.keys(ENTRY).length + 5
    }),
    { seed: 4, numRuns: 300 },
  )
})

t.test('what is short and harmless is not changed; what is cut says so', async (t) => {
  const parsed = JSON.parse(json({ ...ENTRY, reason: `x${'é'.repeat(1_000)}` }, 0)) as AccessLogEntry
  t.ok(parsed.reason.startsWith('xéé') && parsed.reason.endsWith('...'), parsed.reason)
  t.equal(JSON.parse(json({ ...ENTRY, rule: 'a "rule" \\ of mine' }, 0)).rule, 'a "rule" \\ of mine')
})

t.test('a port is a number whatever a client writes there', async (t) => {
  for (const port of ['1e999', 'infinity', '0x10', '123456789', '-1', ''])
    t.equal(parseUpstreamName(`outbound_.${port}_._.a.b`).port, 0, port)
  t.equal(parseUpstreamName('outbound_.65535_.v1_.a.b').port, 65_535)
})
