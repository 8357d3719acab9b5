import assert from 'node:assert/strict'
import fc from 'fast-check'
import t from 'tap'
import { type ViewKey, Views } from '../../src/discovery/views.ts'
import { silentLogger } from '../../src/lib/log.ts'
import { computeModel } from '../../src/model/compute.ts'
import { ModelStages } from '../../src/model/model-stages.ts'
import type { Manifest } from '../../src/objects/types.ts'
import type { Changes, ViewSource } from '../../src/xds/snapshot-cache.ts'
import {
  gateway,
  gatewayService,
  listOf,
  manifests,
  objects,
  pod,
  service,
  setting,
  workspace,
} from '../model/build.ts'
import { histories, slice, World } from '../model/history.ts'

const self = { cluster: 'c1', trustDomain: 'c1.local' }
const bundles = [{ trustDomain: 'c1.local', pem: 'PEM' }]
const clusterBundles = new Map()
const proxy = { secrets: true, credentialFile: '' }

const KEYS: readonly ViewKey[] = [
  { ...proxy, kind: 'sidecar', bind: '127.240.0.0/16', hostNames: true, http: false, dns: undefined },
  {
    ...proxy,
    kind: 'sidecar',
    bind: '127.240.0.0/29',
    hostNames: false,
    http: true,
    dns: { listen: { address: '127.0.0.1', port: 53 }, resolvers: [] },
  },
  {
    ...proxy,
    kind: 'gateway',
    gateway: 'bookinfo/gw',
    bind: { address: '0.0.0.0', port: 15443 },
    issuers: true,
  },
  {
    ...proxy,
    kind: 'gateway',
    gateway: 'bookinfo/gw',
    bind: { address: '0.0.0.0', port: 15443 },
    issuers: false,
  },
  { kind: 'grpc' },
  { kind: 'istio' },
  { kind: 'exports', cluster: 'c2' },
  { kind: 'exports', cluster: 'c3' },
]

/** `type name version` of everything. */
function held(source: ViewSource): string[] {
  const lines = [...source.current()].flatMap(([typeUrl, resources]) =>
    [...resources.values()].map(({ name, version }) => `${typeUrl} ${name} ${version}`),
  )
  return lines.sort()
}

/** A client of a view that takes only what it is told of. */
function follow(source: ViewSource): () => string[] {
  const has = new Set(held(source))
  source.watch((changes: Changes) => {
    for (const [typeUrl, names] of changes) {
      for (const name of names) {
        for (const line of has) if (line.startsWith(`${typeUrl} ${name} `)) has.delete(line)
        const resource = source.current().get(typeUrl)?.get(name)
        if (resource !== undefined) has.add(`${typeUrl} ${name} ${resource.version}`)
      }
    }
  })
  return () => [...has].sort()
}

t.test(
  'over any history of objects each view is the one that would be computed from scratch, and what is told adds up to it',
  async () => {
    fc.assert(
      fc.property(histories, (history) => {
        const world = new World()
        const stages = new ModelStages()
        const inputs = (fresh?: ModelStages) => ({
          model: computeModel({ ...self, list: world.list }, fresh ?? stages),
          bundles,
          clusterBundles,
          complete: true,
        })
        const views = new Views(inputs(), silentLogger)
        const sources = KEYS.map((key) => views.source(key))
        const followers = sources.map(follow)
        for (const steps of history) {
          world.apply(steps)
          views.refresh(inputs())
          const fresh = new Views(inputs(new ModelStages()), silentLogger)
          for (const [i, key] of KEYS.entries()) {
            const wanted = held(fresh.source(key))
            assert.deepEqual(held(sources[i] as ViewSource), wanted)
            assert.deepEqual(followers[i]?.(), wanted)
          }
        }
      }),
      { numRuns: 20 },
    )
  },
)

const COUNT = 100

t.test(
  'a change of one service is encoded once for each view that sees it, and derived for it alone',
  async (t) => {
    const names = Array.from({ length: COUNT }, (_, i) => `s${i}`)
    const documents: Manifest[] = [
      workspace('ws', '*/ns'),
      setting('all', 'ws', { gateway: 'ns', labels: { app: 'gw' } }),
      gateway('gw', 'ns'),
      gatewayService('gw', 'ns'),
      pod('gw-pod', 'ns', { app: 'gw' }),
      ...names.flatMap((name, i) => [
        service(name, 'ns'),
        slice(`${name}-1`, 'ns', name, [{ address: `10.0.0.${i}` }]),
      ]),
    ]
    const before = objects(manifests(...documents))
    const stages = new ModelStages()
    const inputs = (changed?: Manifest) => {
      const [object] = changed === undefined ? [] : objects(manifests(changed))
      const list = listOf(
        before.map((each) =>
          each.kind === object?.kind && each.metadata.name === object.metadata.name ? object : each,
        ),
      )
      return { model: computeModel({ ...self, list }, stages), bundles, clusterBundles, complete: true }
    }
    const views = new Views(inputs(), silentLogger)
    const keys: ViewKey[] = [
      { ...proxy, kind: 'sidecar', bind: '127.240.0.0/16', hostNames: true, http: false, dns: undefined },
      {
        ...proxy,
        kind: 'gateway',
        gateway: 'ns/gw',
        bind: { address: '0.0.0.0', port: 15443 },
        issuers: true,
      },
    ]
    const told = new Map<string, number>()
    for (const key of keys) {
      const source = views.source(key)
      for (let client = 0; client < 10; client++)
        source.watch((changes) => {
          for (const names of changes.values()) told.set(key.kind, (told.get(key.kind) ?? 0) + names.size)
        })
    }
    const { encoded, derived } = views.counters
    t.ok(encoded > 5 * COUNT, 'at first everything is encoded')

    views.refresh(inputs(slice('s7-1', 'ns', 's7', [{ address: '10.9.9.9' }])))
    t.same(
      { encoded: views.counters.encoded - encoded, told: [...told] },
      {
        encoded: 2,
        told: [
          ['sidecar', 10],
          ['gateway', 10],
        ],
      },
      'one ClusterLoadAssignment in each view, whoever watches',
    )
    t.ok(
      views.counters.derived - derived <= 4,
      'its host, its routes and its resources are derived anew, no other',
    )

    const then = views.counters
    told.clear()
    views.refresh(inputs(slice('s7-1', 'ns', 's7', [{ address: '10.9.9.9' }])))
    t.equal(views.counters.encoded, then.encoded, 'the same again is not encoded')
    t.same([...told], [], 'and nobody is told of it')
  },
)
