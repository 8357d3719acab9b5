import { mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import t, { type Test } from 'tap'
import { silentLogger } from '../../src/lib/log.ts'
import { RefusedResources } from '../../src/proxy/process/refused-resources.ts'
import { ResourceSet } from '../../src/proxy/process/resource-set.ts'
import { SnapshotKeeper } from '../../src/proxy/process/snapshot-keeper.ts'
import { SnapshotFile } from '../../src/xds/snapshot-file.ts'
import { TYPE } from '../../src/xds/types.ts'
import { HandClock } from '../proxy/hand-clock.ts'
import { endpoints, upstream } from '../proxy/support.ts'

const DAY_MS = 24 * 3_600_000

function keeper(t: Test) {
  const directory = join(t.testdir(), 'run')
  mkdirSync(directory)
  const clock = new HandClock()
  const resources = new ResourceSet({ nameTable: false })
  resources.update(TYPE.cluster, [upstream('a')], [])
  resources.update(TYPE.endpoints, [endpoints('a', [])], [])
  const state = { connected: true }
  const file = new SnapshotFile({ directory, owner: 'a', clock })
  const logger = silentLogger
  const kept = new SnapshotKeeper({ file, resources, connected: () => state.connected, clock, logger })
  return { directory, clock, resources, state, file, kept }
}

t.test('nothing half is saved; what is whole is saved once for changes in quick succession', async (t) => {
  const { clock, resources, file, kept } = keeper(t)
  kept.saveSoon()
  clock.advance(1_000)
  t.equal(file.load().loaded, undefined, 'no answer about listeners yet')
  resources.update(TYPE.listener, [], [])
  kept.saveSoon()
  kept.saveSoon()
  t.equal(file.load().loaded, undefined)
  clock.advance(1_000)
  t.same([...(file.load().loaded?.snapshot.get(TYPE.cluster)?.keys() ?? [])], ['a'])
  t.not(kept.saved, '')
  kept.stop()
  t.equal(clock.pending, 0)
})

t.test('while discovery is there a snapshot that does not change does not age', async (t) => {
  const { clock, resources, state, file, kept } = keeper(t)
  resources.update(TYPE.listener, [], [])
  kept.saveSoon()
  clock.advance(1.1 * DAY_MS)
  t.ok(file.load().loaded, 'confirmed all the time')
  state.connected = false
  clock.advance(2 * DAY_MS)
  t.match(file.load(), { loaded: undefined, problems: [{}] }, 'nobody has said for too long that it is true')
  kept.stop()
})

t.test('what could not be saved is said, and saved without a further change once it can be', async (t) => {
  const { directory, clock, resources, file, kept } = keeper(t)
  resources.update(TYPE.listener, [], [])
  rmSync(directory, { recursive: true })
  kept.saveSoon()
  clock.advance(1_000)
  t.match(kept.problems, [/^not saved: ENOENT/])
  mkdirSync(directory)
  clock.advance(3_000)
  t.same(kept.problems, [])
  t.ok(file.load().loaded)
  kept.stop()
})

t.test('a refusal is of the resource whose name it has, not of one whose name is part of it', async (t) => {
  const resources = new ResourceSet({ nameTable: false })
  const refused = new RefusedResources(silentLogger)
  const put = (...upserted: ReturnType<typeof upstream>[]) =>
    refused.update(TYPE.cluster, { upserted, removed: [] }, resources.update(TYPE.cluster, upserted, []))
  put(upstream('a'), { ...upstream('ab'), body: Buffer.from([255]) })
  t.same([...refused.problems.keys()], [`${TYPE.cluster} ab`])
  put(upstream('a'))
  t.same([...refused.problems.keys()], [`${TYPE.cluster} ab`], 'another one is as good as it was')
  put(upstream('ab'))
  t.same([...refused.problems.keys()], [])
  t.same(refused.nacksByType, { Cluster: 1 })
  t.equal(refused.nacks, 1)
})
