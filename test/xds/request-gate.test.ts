import t from 'tap'
import { RequestGate } from '../../src/xds/request-gate.ts'
import { NEVER_ANSWERED } from '../../src/xds/type-rules.ts'
import { TYPE } from '../../src/xds/types.ts'
import { NODE, request } from './fixtures.ts'

const LIMITS = { maxTypes: 2, maxRequestsPerSecond: 10, requestBurst: 20 }

t.test('each mistake is refused with a word of its own', async (t) => {
  const gate = () => new RequestGate(undefined, LIMITS)
  const reason = (one: RequestGate, ...asked: Parameters<typeof request>[0][]) =>
    asked.map((fields) => {
      const answer = one.pass(request(fields), 0)
      return answer.kind === 'refuse' ? answer.refusal.reason : answer.kind
    })
  t.same(reason(gate(), { typeUrl: TYPE.cluster }), ['no-node'])
  t.same(reason(gate(), { typeUrl: TYPE.cluster, node: { ...NODE, id: '' } }), ['no-node'])
  t.same(reason(gate(), { typeUrl: '', node: NODE }), ['wrong-type'])
  t.same(reason(new RequestGate(TYPE.listener, LIMITS), { typeUrl: TYPE.cluster, node: NODE }), [
    'wrong-type',
  ])
  t.same(reason(new RequestGate(TYPE.listener, LIMITS), { typeUrl: '', node: NODE }), ['request'])
  const types = ['a', 'b', 'a', 'c'].map((typeUrl) => ({ typeUrl, node: NODE }))
  t.same(reason(gate(), ...types), ['request', 'request', 'request', 'too-many-types'])
})

t.test('who a client is does not change, and is needed once only', async (t) => {
  const gate = new RequestGate(undefined, LIMITS)
  gate.pass(request({ typeUrl: 'a', node: NODE }), 0)
  t.match(gate.pass(request({ typeUrl: 'a' }), 0), { kind: 'request', node: NODE, firstOfType: false })
  const other = { ...NODE, id: 'router~ip~eastwest.istio-system~x' }
  t.match(gate.pass(request({ typeUrl: 'b', node: other }), 0), { node: NODE, firstOfType: true })
})

t.test('health is heard and never answered; it may come first', async (t) => {
  const gate = new RequestGate(undefined, LIMITS)
  t.same(gate.pass(request({ typeUrl: NEVER_ANSWERED, node: NODE }), 0), { kind: 'ignore' })
  t.match(gate.pass(request({ typeUrl: 'a' }), 0), { kind: 'request', node: NODE })
})

t.test('a burst is let through, and after it so many a second', async (t) => {
  const gate = new RequestGate(undefined, LIMITS)
  const sends = (nowMs: number) => {
    let taken = 0
    while (taken < 1_000 && gate.pass(request({ typeUrl: 'a', node: NODE }), nowMs).kind === 'request')
      taken++
    return taken
  }
  t.equal(sends(0), 20)
  t.equal(sends(50), 0)
  t.equal(sends(1_050), 10)
  t.equal(sends(500), 0, 'a clock that goes back gives nothing')
  t.equal(sends(1_000_000), 20)
  t.match(gate.pass(request({ typeUrl: 'a' }), 1_000_000), {
    refusal: { code: 8, reason: 'too-many-requests' },
  })
})
