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
    ...hosts.flatMap((host, i) => [
      [entry(`e${i}`, host, '192.0.2.8'), entry(`e${i}`, host, '192.0.2.9', 'c2', [80, 81])],
      [entry(`f${i}`, host, '198.51.100.8', 'c3'), entry(`f${i}`, host, 'gw.example.com')],
    ]),
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
