import fc from 'fast-check'
import t from 'tap'
import { parseSpiffeId, parseWorkload, trustDomainError, workloadId } from '../../src/identity/spiffe-id.ts'

const SEED = 20261123
const NAME = 'abcdefghijklmnopqrstuvwxyz0123456789-'
const label = fc.string({ unit: fc.constantFrom(...NAME), minLength: 1, maxLength: 20 })

t.test('a workload id reads back as what it was made of', async (t) => {
  fc.assert(
    fc.property(label, label, label, (trustDomain, namespace, serviceAccount) => {
      const parsed = parseSpiffeId(workloadId(trustDomain, namespace, serviceAccount))
      if (!parsed.ok || parsed.value.trustDomain !== trustDomain) return false
      const workload = parseWorkload(parsed.value)
      return workload?.namespace === namespace && workload.serviceAccount === serviceAccount
    }),
    { seed: SEED },
  )
  t.same(parseSpiffeId('spiffe://c1.example/ns/a/sa/b'), {
    ok: true,
    value: { trustDomain: 'c1.example', path: '/ns/a/sa/b', uri: 'spiffe://c1.example/ns/a/sa/b' },
  })
  t.match(parseSpiffeId('spiffe://c1.example'), { ok: true, value: { path: '' } })
})

t.test('what parses has one spelling: its parts put together again', async (t) => {
  const text = fc.oneof(
    fc.string({ unit: 'binary' }),
    fc.string({ unit: fc.constantFrom(...'aA./-_%:@?# 0') }),
  )
  fc.assert(
    fc.property(text, (rest) => {
      const parsed = parseSpiffeId(`spiffe://${rest}`)
      if (!parsed.ok) return true
      const { trustDomain, path, uri } = parsed.value
      return (
        uri === `spiffe://${trustDomain}${path}` &&
        /^[a-z0-9._-]+$/.test(trustDomain) &&
        !/\/(\.{0,2})(\/|$)/.test(path)
      )
    }),
    { seed: SEED, numRuns: 5000 },
  )
  t.pass('5,000 runs')
})

t.test('other paths are no workloads', async (t) => {
  for (const path of ['', '/ns/a', '/ns/a/sa', '/ns/a/sa/b/c', '/x/ns/a/sa/b', '/NS/a/sa/b', '/sa/b/ns/a']) {
    t.equal(parseWorkload({ path }), undefined, path)
  }
})

t.test('limits', async (t) => {
  t.equal(trustDomainError('a'.repeat(255)), undefined)
  t.match(trustDomainError('a'.repeat(256)), /longer/)
  t.match(trustDomainError(''), /empty/)
  t.ok(parseSpiffeId(`spiffe://a/${'b'.repeat(2048 - 11)}`).ok)
  t.notOk(parseSpiffeId(`spiffe://a/${'b'.repeat(2048 - 10)}`).ok)
})
