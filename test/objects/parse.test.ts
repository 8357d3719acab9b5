// biome-ignore-all lint/suspicious/noTemplateCurlyInString: placeholders of manifests are what is tested
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { inspect } from 'node:util'
import t from 'tap'
import { parse } from 'yaml'
import { parseManifestFile } from '../../src/objects/manifest-file.ts'
import { parseManifest } from '../../src/objects/parse.ts'
import type { Kind, KubeObject, ObjectOf } from '../../src/objects/types.ts'
import { refKey, refOf } from '../../src/objects/types.ts'

const examples = join(dirname(fileURLToPath(import.meta.url)), '../../deploy/examples/bookinfo')
const VALUES = { ORG: 'acme', TEN: 'eng' }

/** The objects of a YAML text that has no mistakes. */
function objectsOf(text: string, label = 'f.yaml'): KubeObject[] {
  const entries = parseManifestFile(text, label, VALUES)
  if (!entries.ok) throw new Error(entries.error.message)
  return entries.value.map(({ object, problems }) => {
    if (object === undefined) throw new Error(JSON.stringify(problems))
    return object
  })
}

function one<K extends Kind>(_kind: K, text: string): ObjectOf[K] {
  return objectsOf(text)[0] as ObjectOf[K]
}

t.test("the story's YAML works unchanged", async (t) => {
  const read = (name: string) => objectsOf(readFileSync(join(examples, 'story', name), 'utf8'), name)

  const [gateway] = read('eastwest-gateway.yaml')
  t.match(gateway, {
    apiVersion: 'install.tetrate.io/v1alpha1',
    kind: 'IngressGateway',
    source: 'eastwest-gateway.yaml#1',
    conditions: [],
    metadata: {
      name: 'eastwest-gateway',
      namespace: 'bookinfo',
      organization: '',
      tenant: '',
      workspace: '',
    },
  })
  t.strictSame(gateway?.spec, {
    eastWest: true,
    eastWestOnly: true,
    drainMs: 45_000,
    replicas: 1,
    proxyProtocolSources: [],
    service: { type: 'LoadBalancer', annotations: {} },
  })

  const [workspace] = read('bookinfo-ws.yaml')
  t.strictSame(workspace?.spec, { namespaces: [{ cluster: '*', namespace: 'bookinfo' }] })
  t.equal(refKey(refOf(workspace!)), 'Workspace/acme/eng/bookinfo-ws')

  const all = {
    workloadSelector: { namespace: 'bookinfo', labels: { app: 'eastwest-gateway' } },
    exposedServices: [],
    mode: undefined,
    ports: undefined,
  }
  const [setting] = read('bookinfo-ws-eastwest.yaml')
  t.strictSame(setting?.spec, { defaultEastWestGatewaySettings: [all], failover: undefined })
  t.equal(refKey(refOf(setting!)), 'WorkspaceSetting/acme/eng/bookinfo-ws/bookinfo-ws-setting')

  const [limited] = read('bookinfo-ws-limited.yaml')
  t.strictSame(refOf(limited!), refOf(setting!), 'the limited setting is the same object')
  t.strictSame(limited?.spec, {
    defaultEastWestGatewaySettings: [
      {
        workloadSelector: { namespace: 'eastwest', labels: { app: 'eastwest-gateway' } },
        exposedServices: [{ serviceLabels: { failover: 'enable' } }, { serviceLabels: { app: 'details' } }],
        mode: undefined,
        ports: undefined,
      },
    ],
    failover: undefined,
  })

  const [first, second, organization] = read('reachability.yaml')
  t.strictSame(first?.spec, {
    network: 'cluster-1-network',
    trustDomain: 'cluster-1.local',
    locality: { region: 'eu-west-2', zone: '' },
    weight: 100,
    onPeerLoss: 'withdraw',
    peerLeaseMs: 600_000,
  })
  t.equal(second?.metadata.name, 'cluster-2')
  t.strictSame(
    organization?.kind === 'OrganizationSetting' && organization.spec.networkReachability,
    new Map([['cluster-2-network', ['cluster-1-network']]]),
  )
})

t.test('every example parses', async (t) => {
  const files = readdirSync(examples, { recursive: true, encoding: 'utf8' }).filter((name) =>
    name.endsWith('.yaml'),
  )
  t.ok(files.length > 10)
  for (const file of files) objectsOf(readFileSync(join(examples, file), 'utf8'), file)
})

t.test("Tetrate's hierarchy also comes from annotations", async (t) => {
  const annotated = one(
    'WorkspaceSetting',
    `apiVersion: tsb.tetrate.io/v2
kind: WorkspaceSetting
metadata:
  name: s
  namespace: tsb
  annotations:
    tsb.tetrate.io/organization: \${ORG}
    tsb.tetrate.io/tenant: \${TEN}
    tsb.tetrate.io/workspace: w
spec: {}`,
  )
  t.equal(refKey(refOf(annotated)), 'WorkspaceSetting/acme/eng/w/s')
})

t.test('Service: defaults, named target ports, status', async (t) => {
  const found = one(
    'Service',
    `apiVersion: v1
kind: Service
metadata: {name: web, labels: {app.kubernetes.io/name: web}, annotations: {note: "any: text"}}
spec:
  type: LoadBalancer
  selector: {app: web}
  publishNotReadyAddresses: true
  externalIPs: [192.0.2.7]
  ports:
  - {name: http, port: 80, targetPort: web, nodePort: 30080, appProtocol: http}
  - {name: dns, port: 53, protocol: UDP}
status: {loadBalancer: {ingress: [{ip: 192.0.2.1}, {hostname: lb.example.com}]}}`,
  )
  t.equal(found.metadata.namespace, 'default')
  t.strictSame(found.metadata.labels, { 'app.kubernetes.io/name': 'web' })
  t.strictSame(found.spec, {
    selector: { app: 'web' },
    ports: [
      { name: 'http', port: 80, targetPort: 'web', nodePort: 30080, protocol: 'TCP', appProtocol: 'http' },
      { name: 'dns', port: 53, targetPort: 53, nodePort: undefined, protocol: 'UDP', appProtocol: undefined },
    ],
    type: 'LoadBalancer',
    clusterIP: '',
    publishNotReadyAddresses: true,
    externalIPs: ['192.0.2.7'],
  })
  t.strictSame(found.loadBalancer, [{ ip: '192.0.2.1' }, { hostname: 'lb.example.com' }])
})

t.test('EndpointSlice: unset conditions as the API reads them', async (t) => {
  const found = one(
    'EndpointSlice',
    `apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 8080}, {name: any}]
endpoints:
- {addresses: [10.0.0.1], targetRef: {kind: Pod, name: web-a}, zone: z1, nodeName: n1}
- {addresses: [10.0.0.2], conditions: {ready: false}}
- {addresses: [10.0.0.3], conditions: {ready: false, serving: true, terminating: true}}
- {addresses: [10.0.0.4], conditions: {ready: null}}`,
  )
  t.equal(found.spec.serviceName, 'web')
  t.strictSame(found.spec.ports, [{ name: 'http', port: 8080, protocol: 'TCP' }])
  const states = found.spec.endpoints.map(({ ready, serving, terminating }) => [ready, serving, terminating])
  t.strictSame(states, [
    [true, true, false],
    [false, false, false],
    [false, true, true],
    [true, true, false],
  ])
  t.match(found.spec.endpoints[0], { podName: 'web-a', zone: 'z1', nodeName: 'n1' })
})

t.test('Pod and Deployment', async (t) => {
  const pod = one(
    'Pod',
    `apiVersion: v1
kind: Pod
metadata: {name: web-a, namespace: shop, labels: {app: web}}
spec: {nodeName: n1, containers: [{name: web, image: web:1, ports: [{name: http, containerPort: 8080}]}]}
status: {podIP: 10.0.0.1, hostIP: 192.0.2.9, conditions: [{type: Ready, status: "True"}]}`,
  )
  t.match(pod, { podIPs: ['10.0.0.1'], hostIP: '192.0.2.9', ready: true })
  t.equal(pod.spec.serviceAccountName, 'default')
  t.strictSame(pod.spec.containers[0]?.ports, [{ name: 'http', containerPort: 8080 }])

  const deployment = one(
    'Deployment',
    `apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      serviceAccountName: web
      containers: [{name: web, command: [serve], args: [--port, "80"], env: [{name: A, value: b}, {name: C, valueFrom: {}}]}]`,
  )
  t.equal(deployment.spec.replicas, 1)
  t.match(deployment.spec.template, { labels: { app: 'web' }, spec: { serviceAccountName: 'web' } })
  t.strictSame(deployment.spec.template.spec.containers[0]?.env, [
    { name: 'A', value: 'b' },
    { name: 'C', value: '' },
  ])
})

t.test('a Secret is decoded and does not print', async (t) => {
  const secret = one(
    'Secret',
    `apiVersion: v1
kind: Secret
metadata: {name: peer, labels: {isthmus.io/peer: "true"}}
data: {a: aHVzaC1h, b: b2xk}
stringData: {b: hush-b}`,
  )
  t.equal(secret.spec.data['a'], 'hush-a')
  t.equal(secret.spec.data['b'], 'hush-b', 'stringData wins')
  for (const shown of [JSON.stringify(secret), inspect(secret, { depth: 9 }), JSON.stringify(secret.raw)]) {
    t.notMatch(shown, /hush|aHVzaC1h/)
    t.match(shown, /redacted/)
  }
})

t.test('gateways: which kinds and types are what', async (t) => {
  const gateway = (kind: 'Gateway' | 'IngressGateway', spec: string) =>
    one(kind, `apiVersion: install.tetrate.io/v1alpha1\nkind: ${kind}\nmetadata: {name: g}\nspec: ${spec}`)
      .spec
  t.match(gateway('IngressGateway', '{}'), { eastWest: true, eastWestOnly: false })
  t.match(gateway('Gateway', '{}'), { eastWest: true, eastWestOnly: false })
  t.match(gateway('Gateway', '{type: EASTWEST}'), { eastWest: true, eastWestOnly: true })
  t.match(gateway('Gateway', '{type: EGRESS}'), { eastWest: false })
  t.match(
    gateway(
      'Gateway',
      '{connectionDrainDuration: 1m30s, kubeSpec: {deployment: {replicaCount: 3}, service: {type: NodePort, annotations: {a: b}}}}',
    ),
    {
      drainMs: 90_000,
      replicas: 3,
      proxyProtocolSources: [],
      service: { type: 'NodePort', annotations: { a: 'b' } },
    },
  )
  const drain = (text: string) => gateway('IngressGateway', `{connectionDrainDuration: ${text}}`).drainMs
  t.strictSame(['5s', '0s', '1.5h', '250ms'].map(drain), [5_000, 0, 5_400_000, 250])
})

t.test('ServiceEntry as the reference product writes it', async (t) => {
  const entry = one(
    'ServiceEntry',
    `apiVersion: networking.istio.io/v1beta1
kind: ServiceEntry
metadata: {name: global-gwinternal-web-shop-svc-cluster-local, namespace: xcp-multicluster}
spec:
  hosts: [web.shop.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  exportTo: ["*"]
  ports: [{name: http, number: 80, protocol: http}]
  endpoints:
  - address: 192.0.2.1
    ports: {http: 15443}
    locality: us-west1
    labels: {network: cloud, security.istio.io/tlsMode: istio, xcp.tetrate.io/hops: "0"}`,
  )
  t.match(entry.spec, {
    location: 'MESH_INTERNAL',
    resolution: 'STATIC',
    ports: [{ name: 'http', number: 80, protocol: 'HTTP', targetPort: undefined }],
    endpoints: [{ address: '192.0.2.1', ports: { http: 15443 }, locality: 'us-west1', weight: 1 }],
    exportTo: ['*'],
    subjectAltNames: [],
  })
})

t.test('reachability is a comma list per network', async (t) => {
  const { spec } = one(
    'OrganizationSetting',
    `apiVersion: api.tsb.tetrate.io/v2
kind: OrganizationSetting
metadata: {organization: acme, name: default}
spec: {networkSettings: {networkReachability: {a: "b, c,,b", d: ""}}}`,
  )
  t.strictSame(
    spec.networkReachability,
    new Map([
      ['a', ['b', 'c']],
      ['d', []],
    ]),
  )
})

t.test(
  'failover settings: the newer field counts, both spellings of its switch, and a slip is named',
  async (t) => {
    const organization = (spec: string) =>
      one(
        'OrganizationSetting',
        `apiVersion: api.tsb.tetrate.io/v2
kind: OrganizationSetting
metadata: {organization: acme, name: default}
spec: ${spec}`,
      ).spec.failover
    const nothing = { topologyChoice: 'CLUSTER', failoverPriority: [], automaticLoadBalancing: false }
    t.strictSame(organization('{regionalFailover: [{from: eu, to: us}]}'), {
      field: 'spec.regionalFailover',
      ...nothing,
      regionalFailover: [{ from: 'eu', to: 'us' }],
    })
    t.strictSame(
      organization('{regionalFailover: [{from: eu, to: us}], failoverSettings: {topologyChoice: LOCALITY}}'),
      { field: 'spec.failoverSettings', ...nothing, topologyChoice: 'LOCALITY', regionalFailover: [] },
    )
    for (const enabled of ['{value: true}', 'true']) {
      const spec = `{failoverSettings: {automaticLoadBalancing: {enabled: ${enabled}}}}`
      t.equal(organization(spec)?.automaticLoadBalancing, true, enabled)
    }
    const wrong = parseManifest(
      {
        apiVersion: 'api.tsb.tetrate.io/v2',
        kind: 'WorkspaceSetting',
        metadata: { organization: 'acme', tenant: 'eng', workspace: 'w', name: 's' },
        spec: {
          failoverSettings: {
            topologyChoise: 'CLUSTER',
            failoverPriority: ['a=b=c'],
            regionalFailover: [{ from: 'eu', to: 'eu' }],
          },
        },
      },
      'f',
    )
    t.match(
      JSON.stringify(wrong),
      /failoverSettings\.topologyChoise.*failoverPriority\[0\].*regionalFailover\[0\]\.to/,
    )
  },
)

t.test('kinds and groups that are not ours are ignored', async (t) => {
  for (const [apiVersion, kind] of [
    ['networking.istio.io/v1', 'Gateway'],
    ['gateway.networking.k8s.io/v1', 'Gateway'],
    ['cluster.x-k8s.io/v1beta1', 'Cluster'],
    ['v1', 'ConfigMap'],
    ['install.tetrate.io/v1alpha1', 'Tier1Gateway'],
  ]) {
    t.strictSame(parseManifest({ apiVersion, kind, metadata: { name: '${NOT} a name' } }, 'f'), {
      ok: true,
      value: undefined,
    })
  }
  const text = 'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {run.sh: "echo ${HOME_SWEET}"}'
  t.strictSame(objectsOf(text), [], 'nor does what looks like a placeholder in them matter')
})

t.test('a List is its items', async (t) => {
  const items = objectsOf(`apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Namespace, metadata: {name: a}}
- {apiVersion: v1, kind: ConfigMap, metadata: {name: b}}
- {apiVersion: v1, kind: Namespace, metadata: {name: c}}`)
  t.strictSame(
    items.map(({ metadata, source }) => [metadata.name, source]),
    [
      ['a', 'f.yaml#1[0]'],
      ['c', 'f.yaml#1[2]'],
    ],
  )
})

t.test('unknown members stay in raw', async (t) => {
  const doc = parse('{apiVersion: v1, kind: Namespace, metadata: {name: a, uid: u}, extra: 1}')
  const parsed = parseManifest(doc, 'f')
  t.ok(parsed.ok && parsed.value?.raw['extra'] === 1)
})
