import t from 'tap'
import { endpointSlices, type PodFacts } from '../../src/cli/demo/endpoint-slices.ts'
import { parseManifest } from '../../src/objects/parse.ts'
import type { Manifest, Service } from '../../src/objects/types.ts'

function service(spec: Manifest): Service {
  const parsed = parseManifest(
    { apiVersion: 'v1', kind: 'Service', metadata: { name: 'ratings', namespace: 'bookinfo' }, spec },
    'test.yaml',
  )
  if (!parsed.ok) throw new Error(JSON.stringify(parsed.error))
  return parsed.value as Service
}

function pod(name: string, changes: Partial<PodFacts> = {}): PodFacts {
  return {
    name,
    namespace: 'bookinfo',
    labels: { app: 'ratings' },
    ip: '127.9.1.10',
    nodeName: 'node',
    zone: 'zone',
    ready: true,
    terminating: false,
    containers: [],
    ...changes,
  }
}
const container = (name: string, containerPort: number) => [
  { name: 'c', image: 'isthmus', command: [], args: [], env: [], ports: [{ name, containerPort }] },
]
const shape = (slices: Manifest[]) =>
  slices.map((slice) => {
    const { ports, endpoints } = slice as {
      ports: { port: number }[]
      endpoints: { addresses: string[]; conditions: object }[]
    }
    return {
      ports: ports.map(({ port }) => port),
      addresses: endpoints.flatMap(({ addresses }) => addresses),
    }
  })

const NAMED = { selector: { app: 'ratings' }, ports: [{ name: 'http', port: 80, targetPort: 'web' }] }

t.test('a named port that is another number on each pod makes a slice for each', (t) => {
  const pods = [
    pod('a', { ip: '127.9.1.1', containers: container('web', 8081) }),
    pod('b', { ip: '127.9.1.2', containers: container('web', 8082) }),
    pod('c', { ip: '127.9.1.3', containers: container('web', 8081) }),
  ]
  t.strictSame(shape(endpointSlices(service(NAMED), pods)), [
    { ports: [8081], addresses: ['127.9.1.1', '127.9.1.3'] },
    { ports: [8082], addresses: ['127.9.1.2'] },
  ])
  t.end()
})

t.test('a pod without a port of that name has no port in its slice', (t) => {
  t.strictSame(shape(endpointSlices(service(NAMED), [pod('a', { containers: container('other', 1) })])), [
    { ports: [], addresses: ['127.9.1.10'] },
  ])
  t.end()
})

t.test('only pods that the selector matches, in the same namespace', (t) => {
  const pods = [pod('other-ns', { namespace: 'x' }), pod('other-label', { labels: { app: 'x' } })]
  t.strictSame(endpointSlices(service({ ...NAMED, ports: [{ port: 80 }] }), pods), [])
  t.strictSame(
    endpointSlices(service({ ports: [{ port: 80 }] }), [pod('a')]),
    [],
    'no selector: somebody else writes them',
  )
  t.end()
})

t.test('conditions follow the pod', (t) => {
  const conditions = (changes: Partial<PodFacts>, spec: Manifest = {}) => {
    const [slice] = endpointSlices(
      service({ selector: { app: 'ratings' }, ports: [{ port: 80 }], ...spec }),
      [pod('a', changes)],
    )
    return (slice as unknown as { endpoints: { conditions: object }[] }).endpoints[0]?.conditions
  }
  t.strictSame(conditions({}), { ready: true, serving: true, terminating: false })
  t.strictSame(conditions({ ready: false }), { ready: false, serving: false, terminating: false })
  t.strictSame(conditions({ terminating: true }), { ready: false, serving: true, terminating: true })
  t.strictSame(conditions({ ready: false }, { publishNotReadyAddresses: true }), {
    ready: true,
    serving: false,
    terminating: false,
  })
  t.end()
})
