import { networkInterfaces } from 'node:os'
import t from 'tap'
import { type Bound, ListenersByPort } from '../../src/proxy/listeners-by-port.ts'
import { HandClock } from './hand-clock.ts'

const bound = (host: string, port: number, asked = port): Bound => ({
  config: { address: { port: asked } },
  boundTo: { host, port },
})

t.test(
  'one listener among many, by its address in any spelling; all addresses means all of this machine',
  async (t) => {
    const listeners = new Map<string, Bound>()
    for (let i = 0; i < 3_000; i += 1) listeners.set(`l${i}`, bound(`127.240.${i >> 8}.${i & 255}`, 9_080))
    listeners.set('any', bound('0.0.0.0', 15_443))
    listeners.set('six', bound('::1', 80))
    listeners.set('free', bound('127.0.0.1', 40_000, 0))
    const index = new ListenersByPort(listeners, new HandClock())
    t.equal(index.at('127.240.1.2', 9_080), listeners.get('l258'))
    t.equal(index.at('127.240.1.2', 9_081), undefined)
    t.equal(index.at('127.0.0.1', 40_000), listeners.get('free'), 'the port that it was given')
    for (const [host, port, expected] of [
      ['127.240.1.2', 9_080, true],
      ['::ffff:127.240.1.2', 9_080, true],
      ['10.0.0.1', 9_080, false],
      ['0:0:0:0:0:0:0:1', 80, true],
      ['::2', 80, false],
      ['127.0.0.9', 15_443, true],
      ['203.0.113.9', 15_443, false],
      ['127.0.0.1', 40_000, true],
      ['lb.example', 9_080, false],
    ] as const)
      t.equal(index.reaches(host, port), expected, `${host} ${port}`)
    const own = Object.values(networkInterfaces()).flatMap((all) => all ?? [])
    for (const { address } of own) t.equal(index.reaches(address, 15_443), true, `our own ${address}`)
    listeners.delete('any')
    index.changed()
    t.equal(index.reaches('127.0.0.9', 15_443), false)
  },
)
