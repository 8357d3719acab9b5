// What an update of thousands of services costs the traffic of a worker.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { silentLogger } from '../../src/lib/log.ts'
import { ok } from '../../src/lib/result.ts'
import { socketPaths } from '../../src/proxy/process/run-directory.ts'
import { Worker } from '../../src/proxy/process/worker.ts'
import { WORKER_ADS_LIMITS } from '../../src/proxy/process/workers.ts'
import { XdsServer } from '../../src/xds/server.ts'
import { SnapshotCache } from '../../src/xds/snapshot-cache.ts'
import { TYPE } from '../../src/xds/types.ts'
import { endpoints, sidecarListener, upstream } from '../proxy/support.ts'
import { eventually } from './pod.ts'

const SERVICES = 3_000

/** CPU of this thread, milliseconds: what other processes of the machine do is not in it. */
function cpuMs(): number {
  const { user, system } = process.threadCpuUsage()
  return (user + system) / 1_000
}

/** Measures each turn of the event loop until it is stopped. */
function turns() {
  const lengths: number[] = []
  let last = cpuMs()
  let running = true
  const turn = () => {
    const now = cpuMs()
    lengths.push(now - last)
    last = now
    if (running) setImmediate(turn)
  }
  setImmediate(turn)
  return {
    stop(): { longest: number; all: number } {
      running = false
      return { longest: Math.max(...lengths), all: lengths.reduce((sum, one) => sum + one, 0) }
    },
  }
}

t.test('an update of thousands of services is put in force in slices, whole', async (t) => {
  const runDirectory = mkdtempSync(join(tmpdir(), 'isthmus-big-'))
  t.teardown(() => rmSync(runDirectory, { recursive: true }))
  const cache = new SnapshotCache()
  const server = new XdsServer({
    authorize: () => ok(cache),
    ready: () => true,
    logger: silentLogger,
    limits: WORKER_ADS_LIMITS,
  })
  await server.listen({ path: socketPaths(runDirectory).xds })
  t.teardown(() => server.close(0))
  const names = Array.from({ length: SERVICES }, (_, i) => `outbound_.80_._.s-${i}.ns.svc.cluster.local`)
  const clusters = new Map(names.map((name) => [name, upstream(name)]))
  const assignments = new Map(names.map((name, i) => [name, endpoints(name, [{ port: 1_000 + i }])]))
  cache.set(
    new Map([
      [TYPE.cluster, clusters],
      [TYPE.endpoints, assignments],
      [TYPE.listener, new Map([['last', sidecarListener({ name: 'last', host: '127.0.0.1', port: 0 })]])],
    ]),
  )
  const worker = new Worker({
    name: 'gateway',
    runDirectory,
    allowLocalEndpoints: true,
    logger: silentLogger,
    accessLog: () => {},
  })
  t.teardown(() => worker.stop())
  const measured = turns()
  worker.start()
  // Clusters and their endpoints come before what may refer to them.
  await eventually(
    async () => server.clients()[0]?.types[TYPE.listener]?.ackedVersion,
    (version) => version !== undefined && version !== '',
  )
  const { longest, all } = measured.stop()
  const { upstreams, listeners } = worker.status().engine
  t.equal(upstreams.filter((one) => one.endpoints.length === 1).length, SERVICES)
  t.match(listeners, [{ name: 'last' }])
  t.comment(`${Math.round(all)} ms of CPU, the longest turn ${longest.toFixed(1)} ms`)
  t.ok(longest < all / 6, `${longest} of ${all} ms`)
})
