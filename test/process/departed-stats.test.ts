import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import type { ControlledWorker } from '../../src/proxy/process/control.ts'
import { DepartedStats } from '../../src/proxy/process/departed-stats.ts'
import type { WorkerStats } from '../../src/proxy/process/worker-stats.ts'

const HISTOGRAM = { boundsMs: [1, 2], counts: [1, 0, 2], sumMs: 9 }

function statsOf(pid: number, accepted: number): WorkerStats {
  return {
    ...{ pid, slot: 0, generation: 1, runtime: 'node', version: '24', draining: false },
    ...{ accepted, ended: 1, open: 4, opening: 5, shadowAllowed: 6, shadowDenied: 7, logLinesDropped: 8 },
    loopDelay: { p50Ms: 1, p99Ms: 1, maxMs: 1 },
    spans: { sent: 3, dropped: 1 },
    upstreams: [{ name: 'u', healthy: 1, unhealthy: 0, active: 1 } as never],
    listeners: { listening: 1 },
    traffic: [
      { service: 'a:1', peerTrustDomain: 'x', ended: { '-': 1, UF: 2 }, bytesIn: 3, bytesOut: 4, open: 5 },
      { service: 'b:1', peerTrustDomain: 'x', ended: { '-': 1 }, bytesIn: 0, bytesOut: 0, open: 0 },
    ],
    listenerCounters: [
      {
        ...{
          listener: 'l',
          accepted,
          active: 1,
          handshakes: 1,
          handshakeFailures: 1,
          certificatesRefused: 1,
        },
        ...{ noFilterChain: 1, rbacAllowed: 1, rbacDenied: 1 },
      },
    ],
    handshake: HISTOGRAM,
    connect: HISTOGRAM,
    duration: HISTOGRAM,
  }
}

const worker = (pid: number, parting?: WorkerStats): ControlledWorker => ({
  hello: { pid, slot: 0, generation: 1, runtime: 'node', version: '24' },
  parting,
  request: () => Promise.reject(new Error('gone')),
})

t.test(
  'the counters of workers that left with a last word are added up; what is of now is not',
  async (t) => {
    const departed = new DepartedStats()
    t.same(departed.sum([]), [])
    departed.answered(statsOf(1, 10))
    departed.gone(worker(1, statsOf(1, 11)))
    departed.gone(worker(2, statsOf(2, 100)))
    t.match(departed.sum([]), [
      {
        departed: true,
        ...{
          accepted: 111,
          ended: 2,
          open: 0,
          opening: 0,
          logLinesDropped: 16,
          upstreams: [],
          listeners: {},
        },
        traffic: [
          { service: 'a:1', ended: { '-': 2, UF: 4 }, bytesIn: 6, bytesOut: 8, open: 0 },
          { service: 'b:1', ended: { '-': 2 } },
        ],
        listenerCounters: [{ listener: 'l', accepted: 111, active: 0, rbacDenied: 2 }],
        handshake: { boundsMs: [1, 2], counts: [2, 0, 4], sumMs: 18 },
      },
    ])
    t.equal(departed.sum([])[0]?.accepted, 111, 'once')
  },
)

t.test(
  'one that was killed counts with its last answer; one that only lost its connection counts for itself',
  async (t) => {
    const departed = new DepartedStats()
    const child = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)'])
    const pid = child.pid as number
    departed.answered(statsOf(pid, 7))
    departed.gone(worker(pid))
    t.same(departed.sum([]), [], 'it may come back')
    child.kill('SIGKILL')
    await once(child, 'exit')
    t.same(departed.sum([worker(pid)]), [], 'its connection is not known to be closed yet')
    t.match(departed.sum([]), [{ accepted: 7 }])
  },
)

t.test(
  'the next supervisor of the same workers goes on from there, one of new workers begins anew',
  async (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'isthmus-departed-'))
    t.teardown(() => rmSync(folder, { recursive: true }))
    const path = join(folder, 'departed.json')
    new DepartedStats({ path }).gone(worker(1, statsOf(1, 5)))
    const next = new DepartedStats({ path, resume: true })
    next.gone(worker(2, statsOf(2, 6)))
    t.match(new DepartedStats({ path, resume: true }).sum([]), [{ accepted: 11 }])
    writeFileSync(path, 'nonsense')
    t.same(new DepartedStats({ path, resume: true }).sum([]), [])
    t.same(new DepartedStats({ path }).sum([]), [])
    t.notOk(existsSync(path))
  },
)
