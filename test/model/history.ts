// Random histories of a cluster's objects, for tests of what is computed from one state to the next.
import fc from 'fast-check'
import type { ObjectStore } from '../../src/objects/store.ts'
import { type Kind, type KubeObject, type Manifest, refKey, refOf } from '../../src/objects/types.ts'
import {
  clusterObject,
  gateway,
  gatewayService,
  manifests,
  objects,
  organization,
  peerSecret,
  pod,
  service,
  setting,
  workspace,
} from './build.ts'

const NAMESPACES = ['bookinfo', 'shop', 'dev']
const NAMES = ['details', 'reviews', 'web']

interface Ready {
  readonly address: string
  readonly podName?: string
  readonly ready?: boolean
}

export function slice(
  name: string,
  namespace: string,
  of: string,
  endpoints: readonly Ready[],
  port = 8080,
): Manifest {
  return {
    apiVersion: 'discovery.k8s.io/v1',
    kind: 'EndpointSlice',
    metadata: { name, namespace, labels: { 'kubernetes.io/service-name': of } },
    addressType: 'IPv4',
    ports: [{ name: '', port, protocol: 'TCP' }],
    endpoints: endpoints.map(({ address, podName, ready = true }) => ({
      addresses: [address],
      conditions: { ready, serving: true, terminating: !ready },
      ...(podName === undefined ? {} : { targetRef: { kind: 'Pod', name: podName, namespace } }),
    })),
  }
}

export function entry(name: string, host: string, address: string, of = 'c2', ports = [80]): Manifest {
  return {
    apiVersion: 'networking.istio.io/v1alpha3',
    kind: 'ServiceEntry',
    metadata: { name, namespace: 'xcp-multicluster' },
    spec: {
      hosts: [host],
      location: 'MESH_INTERNAL',
      resolution: /^[0-9.]+$/.test(address) ? 'STATIC' : 'DNS',
      ports: ports.map((number) => ({ name: `http-${number}`, number, protocol: 'HTTP' })),
      endpoints: [
        {
          address,
          ports: Object.fromEntries(ports.map((number) => [`http-${number}`, 15443])),
          labels: {
            network: 'n2',
            'xcp.tetrate.io/cluster': of,
            'security.istio.io/tlsMode': 'istio',
          },
        },
      ],
      subjectAltNames: [`spiffe://${of}.local/ns/gw/sa/gw`],
    },
  }
}

/** By object: the forms that it may have. */
function pool(): Manifest[][] {
  const perService = NAMESPACES.flatMap((namespace) =>
    NAMES.flatMap((name, i) => [
      [
        service(name, namespace),
        service(name, namespace, { labels: { tier: 'front' } }),
        service(name, namespace, { port: 81 }),
        {
          ...service(name, namespace),
          metadata: { name, namespace, annotations: { 'isthmus.io/mode': 'passthrough' } },
        },
      ],
      [
        slice(`${name}-1`, namespace, name, []),
        slice(`${name}-1`, namespace, name, [{ address: `10.0.${i}.1`, podName: `${name}-pod` }]),
        slice(`${name}-1`, namespace, name, [
          { address: `10.0.${i}.1` },
          { address: `10.0.${i}.2`, ready: false },
        ]),
      ],
      [
        slice(`${name}-2`, namespace, name, [{ address: `10.1.${i}.1` }], 8081),
        slice(`${name}-2`, namespace, NAMES[0] as string, [
          { address: `10.1.${i}.1`, podName: `${name}-pod` },
        ]),
      ],
      [
        pod(`${name}-pod`, namespace, { app: name }),
        pod(`${name}-pod`, namespace, { app: name, 'security.istio.io/tlsMode': 'istio' }, 'reader'),
      ],
    ]),
  )
  const exposing = (labels: Record<string, string>[]) =>
    setting('ws-setting', 'ws', { gateway: 'bookinfo', labels: { app: 'gw' }, exposed: labels })
  const hosts = [
    'details.bookinfo.svc.cluster.local',
    'far.away.svc.cluster.local',
    'a.dev.svc.cluster.local',
    'api.example.com',
  ]
  return [
    ...perService,
    [workspace('ws', '*/bookinfo'), workspace('ws', '*/bookinfo', 'c1/shop'), workspace('ws', '*/*')],
    [workspace('zz', '*/dev'), workspace('zz', '*/bookinfo')],
    [exposing([]), exposing([{ tier: 'front' }]), exposing([{ app: 'web' }])],
    [gateway('gw', 'bookinfo')],
    [gateway('other', 'bookinfo')],
    [
      gatewayService('gw', 'bookinfo'),
      gatewayService('gw', 'bookinfo', []),
      gatewayService('gw', 'bookinfo', [{ ip: '192.0.2.7' }]),
    ],
    [pod('gw-pod', 'bookinfo', { app: 'gw' }), pod('gw-pod', 'bookinfo', { app: 'gw' }, 'gw-sa')],
    [clusterObject('c1', 'n1'), clusterObject('c1', 'n2')],
    [clusterObject('c2', 'n2'), clusterObject('c2', 'n1'), clusterObject('c2', 'n2', 'c1.local')],
    [peerSecret('c2'), peerSecret('c2', 'c1.local')],
    [organization({ n1: 'n2' }), organization({ n2: 'n1' }), organization(undefined)],
    ...more(),
    ...hosts.flatMap((host, i) => [
      [entry(`e${i}`, host, '192.0.2.8'), entry(`e${i}`, host, '192.0.2.9', 'c2', [80, 81])],
      [entry(`f${i}`, host, '198.51.100.8', 'c3'), entry(`f${i}`, host, 'gw.example.com')],
    ]),
  ]
}

const rule = (name: string, namespace: string, host: string, ...subsets: object[]): Manifest => ({
  apiVersion: 'networking.istio.io/v1',
  kind: 'DestinationRule',
  metadata: { name, namespace },
  spec: { host, subsets },
})

const policy = (name: string, namespace: string, spec: object): Manifest => ({
  apiVersion: 'security.istio.io/v1',
  kind: 'AuthorizationPolicy',
  metadata: { name, namespace },
  spec,
})

/** A Cluster object with all that may be said of it. */
const placed = (name: string, network: string, spec: object, labels = {}): Manifest => {
  const base = clusterObject(name, network) as { metadata: object; spec: object }
  return { ...base, metadata: { ...base.metadata, labels }, spec: { ...base.spec, ...spec } } as Manifest
}

/** A headless Service and a slice whose endpoints have host names. */
const headless = (ports: object[], annotations = {}): Manifest => ({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name: 'db', namespace: 'bookinfo', annotations },
  spec: { clusterIP: 'None', selector: { app: 'db' }, ports },
})
const named = (...hostnames: string[]): Manifest => ({
  apiVersion: 'discovery.k8s.io/v1',
  kind: 'EndpointSlice',
  metadata: { name: 'db-1', namespace: 'bookinfo', labels: { 'kubernetes.io/service-name': 'db' } },
  addressType: 'IPv4',
  ports: [
    { name: 'sql', port: 5432, protocol: 'TCP' },
    { name: 'admin', port: 8080, protocol: 'TCP' },
  ],
  endpoints: hostnames.map((hostname, i) => ({
    ...{ addresses: [`10.2.0.${i}`], hostname, conditions: { ready: hostname !== 'db-9' } },
    targetRef: { kind: 'Pod', name: hostname, namespace: 'bookinfo' },
  })),
})

/** What a part of the worlds has: subsets, pods with names, ports that are not exposed, policies, places, entries of users. */
function more(): Manifest[][] {
  const sql = { name: 'sql', port: 5432 }
  const admin = { name: 'admin', port: 8080 }
  const v1 = { name: 'v1', labels: { version: 'v1' } }
  const all = { name: 'all', labels: {} }
  const host = 'outbound_.5432_._.db.bookinfo.svc.cluster.local'
  const own = (name: string, namespace: string, address: string) => {
    const made = entry(name, 'details.bookinfo.svc.cluster.local', address)
    return { ...made, metadata: { name, namespace } } as Manifest
  }
  const managed = (subsets: string, labels = {}): Manifest => {
    const made = entry('managed', 'far.away.svc.cluster.local', '192.0.2.10') as {
      metadata: object
      spec: { endpoints: { labels: object }[] }
    }
    const [endpoint] = made.spec.endpoints
    return {
      ...made,
      metadata: {
        ...made.metadata,
        labels: { 'app.kubernetes.io/managed-by': 'isthmus' },
        annotations: { 'isthmus.io/subsets': subsets },
      },
      spec: { ...made.spec, endpoints: [{ ...endpoint, labels: { ...endpoint?.labels, ...labels } }] },
    } as unknown as Manifest
  }
  const failing = (spec: object): Manifest => {
    const base = organization({ n1: 'n2', n2: 'n1' }) as { spec: object }
    return { ...base, spec: { ...base.spec, ...spec } } as Manifest
  }
  const listed = (ports: string): Manifest => {
    const base = setting('ws-setting', 'ws', { gateway: 'bookinfo', labels: { app: 'gw' } }) as unknown as {
      spec: { defaultEastWestGatewaySettings: object[] }
    }
    const [item] = base.spec.defaultEastWestGatewaySettings
    const annotations = { 'isthmus.io/exposed-ports': ports }
    const spec = { defaultEastWestGatewaySettings: [{ ...item, configGenerationMetadata: { annotations } }] }
    return { ...base, spec } as unknown as Manifest
  }
  return [
    [headless([sql]), headless([sql, admin]), headless([sql, admin], { 'isthmus.io/exposed-ports': 'sql' })],
    [named('db-0', 'db-1'), named('db-1'), named('db-9', 'db-0')],
    [
      pod('db-0', 'bookinfo', { app: 'db', version: 'v1' }),
      pod('db-0', 'bookinfo', { app: 'db', 'security.istio.io/tlsMode': 'istio' }, 'sql'),
    ],
    [pod('db-1', 'bookinfo', { app: 'db', version: 'v2' })],
    [
      rule('db', 'bookinfo', 'db', v1),
      rule('db', 'bookinfo', 'db', v1, all),
      rule('db', 'bookinfo', 'web', all),
    ],
    [rule('db', 'istio-system', 'db.bookinfo.svc.cluster.local', all)],
    [rule('details', 'bookinfo', 'details', all, v1)],
    [
      policy('p', 'bookinfo', {
        action: 'DENY',
        rules: [{ when: [{ key: 'connection.sni', values: [host] }] }],
      }),
      policy('p', 'bookinfo', {
        action: 'ALLOW',
        rules: [{ from: [{ source: { principals: ['c2.local/ns/x/sa/y'] } }] }],
      }),
      policy('p', 'bookinfo', { selector: { matchLabels: { app: 'gw' } } }),
    ],
    [policy('all', 'istio-system', { action: 'ALLOW', rules: [{}] })],
    [
      placed('c3', 'n2', { locality: { region: 'r1' } }),
      placed('c3', 'n1', { locality: { region: 'r2', zone: 'a' } }, { tier: 'gold' }),
    ],
    [placed('c1', 'n1', { locality: { region: 'r1', zone: 'a' } }, { tier: 'gold' })],
    [peerSecret('c3'), peerSecret('c3', 'c2.local')],
    [
      failing({ failoverSettings: { topologyChoice: 'LOCALITY' } }),
      failing({ failoverSettings: { failoverPriority: ['topology.istio.io/network', 'tier'] } }),
      failing({ regionalFailover: [{ from: 'r1', to: 'r2' }] }),
    ],
    [listed('80'), listed('sql,80')],
    [own('mine', 'bookinfo', '198.51.100.1'), own('mine', 'bookinfo', 'db.example.com')],
    [own('theirs', 'shop', '198.51.100.2')],
    [managed('{}'), managed('{"v1":{"version":"v1"}}', { 'subset.isthmus.io/v1': '2' })],
  ]
}

const OBJECTS: readonly (readonly KubeObject[])[] = pool().map((forms) =>
  forms.flatMap((form) => objects(manifests(form))),
)

/** What becomes of one object: another form, or (undefined) it goes. */
export interface Step {
  readonly object: number
  readonly form: KubeObject | undefined
}

const step: fc.Arbitrary<Step> = fc
  .nat({ max: OBJECTS.length - 1 })
  .chain((object) =>
    fc.record({ object: fc.constant(object), form: fc.constantFrom(...(OBJECTS[object] ?? []), undefined) }),
  )

/** Batches of steps, the first one from nothing to a whole world. */
export const histories: fc.Arbitrary<Step[][]> = fc
  .tuple(
    fc.tuple(
      ...OBJECTS.map((forms, object) =>
        fc.record({ object: fc.constant(object), form: fc.constantFrom(...forms, ...forms, undefined) }),
      ),
    ),
    fc.array(fc.array(step, { minLength: 1, maxLength: 3 }), { minLength: 1, maxLength: 12 }),
  )
  .map(([first, rest]) => [first, ...rest])

/** Objects in memory, as a store lists them: what did not change is the same object, in a list of its own kind. */
export class World {
  readonly #objects = new Map<number, KubeObject>()
  readonly #lists = new Map<Kind, readonly KubeObject[]>()

  apply(steps: readonly Step[]): void {
    for (const { object, form } of steps) {
      const kind = (form ?? this.#objects.get(object))?.kind
      if (kind !== undefined) this.#lists.delete(kind)
      if (form === undefined) this.#objects.delete(object)
      else this.#objects.set(object, form)
    }
  }

  readonly list: ObjectStore['list'] = (kind) => {
    const known = this.#lists.get(kind)
    if (known !== undefined) return known as never
    const found = [...this.#objects.values()].filter((object) => object.kind === kind)
    const sorted = found
      .map((object) => [refKey(refOf(object)), object] as const)
      .sort(([a], [b]) => (a < b ? -1 : 1))
    const list = sorted.map(([, object]) => object)
    this.#lists.set(kind, list)
    return list as never
  }
}
