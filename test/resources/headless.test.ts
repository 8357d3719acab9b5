// The pods of a headless Service (a StatefulSet's) by their own names, from the cluster that runs them to the one that calls.
import t from 'tap'
import type { Model } from '../../src/model/types.ts'
import { acceptEndpoints } from '../../src/resources/accept-endpoints.ts'
import { parseBindRange } from '../../src/resources/bind-address.ts'
import { gatewayRoutes } from '../../src/resources/gateway-upstreams.ts'
import { decodeNameTable } from '../../src/resources/name-table.ts'
import { acceptEntry } from '../../src/resources/service-entry-accept.ts'
import { exportEntries } from '../../src/resources/service-entry-export.ts'
import { entryManifest } from '../../src/resources/service-entry-manifest.ts'
import { sidecarResources } from '../../src/resources/sidecar-resources.ts'
import { TYPE } from '../../src/xds/types.ts'
import { gateway, modelOf, reachability, setting, workspace, yamlOf } from './world.ts'

const HOST = 'db.bookinfo.svc.cluster.local'
const pod = (i: number): string => `db-${i}.${HOST}`
const sni = (host: string): string => `outbound_.5432_._.${host}`

interface PodShape {
  readonly hostname?: string
  readonly ready?: boolean
}
const db = (pods: readonly PodShape[], clusterIP = 'None', prefix = '10.0.0.'): string =>
  yamlOf(
    {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name: 'db', namespace: 'bookinfo' },
      spec: { clusterIP, selector: { app: 'db' }, ports: [{ name: 'tcp', port: 5432 }] },
    },
    {
      apiVersion: 'discovery.k8s.io/v1',
      kind: 'EndpointSlice',
      metadata: { name: 'db', namespace: 'bookinfo', labels: { 'kubernetes.io/service-name': 'db' } },
      addressType: 'IPv4',
      ports: [{ name: 'tcp', port: 5432, protocol: 'TCP' }],
      endpoints: pods.map(({ hostname = '', ready = true }, i) => ({
        addresses: [`${prefix}${i + 1}`],
        hostname,
        conditions: { ready },
      })),
    },
  )
const exposing =
  gateway('203.0.113.10') + workspace + setting() + reachability(['cluster-1', 'cluster-2'], {})
const two: readonly PodShape[] = [{ hostname: 'db-0' }, { hostname: 'db-1' }]
const exported = (model: Model) => exportEntries([...model.exposures.values()], model.gateways, model.self)

t.test('each pod is a server name of its own at the gateway, beside the one of the Service', async (t) => {
  const routes = gatewayRoutes(modelOf(db(two) + exposing), 'bookinfo/eastwest-gateway')
  t.strictSame(
    routes.map(({ name, endpoints }) => [name, endpoints.map(({ address }) => address)]),
    [
      [sni(pod(0)), ['10.0.0.1']],
      [sni(pod(1)), ['10.0.0.2']],
      [sni(HOST), ['10.0.0.1', '10.0.0.2']],
    ],
  )
  t.ok(routes[0]?.aliases.includes('db-0.db.bookinfo:5432'))
})

t.test('only headless Services have them, and only pods with a host name fit for DNS', async (t) => {
  const hosts = (yaml: string): string[] => modelOf(yaml + exposing).services.map(({ host }) => host)
  const gatewayHost = 'eastwest-gateway.bookinfo.svc.cluster.local'
  t.strictSame(hosts(db(two, '10.96.0.1')), [HOST, gatewayHost])
  t.strictSame(hosts(db([{}, { hostname: 'db-1' }])), [pod(1), HOST, gatewayHost])
  const odd = modelOf(db([{ hostname: 'Db_0' }]) + exposing)
  t.strictSame(
    odd.services.map(({ host }) => host),
    [HOST, gatewayHost],
  )
  t.match(
    odd.conditions.filter(({ reason }) => reason === 'NoPodName'),
    [{ object: 'Service/bookinfo/db', status: true, message: /its pod "Db_0" has no name of its own/ }],
  )
})

t.test('a pod that is not ready keeps its name, so that callers wait for it and not for DNS', async (t) => {
  const model = modelOf(db([{ hostname: 'db-0', ready: false }]) + exposing)
  t.match(exported(model)[0], {
    hosts: [pod(0)],
    endpoints: [{ labels: { 'isthmus.io/not-ready': '5432' } }],
  })
})

function calling(local = '') {
  const entries = exported(modelOf(db(two) + exposing))
  const peer = { cluster: 'cluster-1', trustDomain: 'cluster-1.local', network: 'cluster-1-network' }
  for (const entry of entries) t.match(acceptEntry(entry, peer), { ok: true })
  const yaml = yamlOf(...entries.map(entryManifest)) + local + reachability(['cluster-1', 'cluster-2'], {})
  const model = modelOf(yaml, 'cluster-2')
  const bind = parseBindRange('127.240.0.0/16')
  if (!bind.ok) throw new Error(bind.error)
  const options = { bind: bind.value, bundles: [], secrets: false, hostNames: true, credentialFile: '' }
  return sidecarResources(model, options).snapshot()
}

t.test('a sidecar of another cluster resolves and calls each pod by its name', async (t) => {
  const snapshot = calling()
  const [table] = snapshot.get(TYPE.nameTable)?.values() ?? []
  const names = decodeNameTable(table?.body ?? new Uint8Array())
  const address = names.get(pod(0))
  t.equal(address?.length, 1)
  t.strictSame(names.get('db-0.db.bookinfo'), address)
  t.strictSame(names.get('db-0.db.bookinfo.svc'), address)
  t.notSame(names.get(pod(1)), address)
  t.notSame(names.get(HOST), address)
  t.ok(snapshot.get(TYPE.cluster)?.has(`outbound|5432||${pod(1)}`))
})

t.test('a pod that is here too is called here first', async (t) => {
  const snapshot = calling(db([{ hostname: 'db-0' }], 'None', '10.1.0.'))
  const text = (host: string): string => {
    const resource = snapshot.get(TYPE.endpoints)?.get(`outbound|5432||${host}`)
    return JSON.stringify(resource && acceptEndpoints(resource))
  }
  t.match(text(pod(0)), /10\.1\.0\.1.*203\.0\.113\.10/)
  t.notMatch(text(pod(1)), /10\.1\.0/)
  t.match(text(pod(1)), /203\.0\.113\.10/)
})

t.test("a peer's pods of system services are not taken either", async (t) => {
  const [entry] = exported(modelOf(db(two) + exposing))
  if (entry === undefined) throw new Error('no entry')
  const peer = { cluster: 'cluster-1', trustDomain: 'cluster-1.local', network: '' }
  for (const host of ['a.kubernetes.default', 'a.b.kube-system', 'a.b.c.d'])
    t.match(acceptEntry({ ...entry, hosts: [`${host}.svc.cluster.local`] }, peer), { ok: false }, host)
})

t.test('what is said of a pod names its Service, the object that there is', async (t) => {
  const model = modelOf(db(two) + gateway('203.0.113.10') + workspace + setting([{ expose: 'me' }]))
  t.match(model.exposures.get(pod(0)), {
    decision: { allowed: false },
    fix: /^Service\/bookinfo\/db metadata\.labels/,
  })
})

t.test('of very many pods the first are hosts of their own, and it is said', async (t) => {
  const many = Array.from({ length: 1_001 }, (_, i) => ({ hostname: `db-${i}` }))
  const model = modelOf(
    db(many, 'None', '10.').replaceAll(
      /"10\.(\d+)"/g,
      (_, i) => `"10.0.${Number(i) >> 8}.${Number(i) & 255}"`,
    ),
  )
  t.equal(model.services.length, 1_001)
  t.match(
    model.conditions.filter(({ reason }) => reason === 'TooManyPodNames'),
    [{ message: /^1001 of its pods/ }],
  )
})
