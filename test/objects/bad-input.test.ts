// biome-ignore-all lint/suspicious/noTemplateCurlyInString: placeholders of manifests are what is tested
import t from 'tap'
import { formatProblem } from '../../src/lib/result.ts'
import { parseManifestFile } from '../../src/objects/manifest-file.ts'

/** All messages about a text, without the object's name where it is the usual one. */
function messages(text: string): string[] {
  const entries = parseManifestFile(text, 'f.yaml', { ORG: 'acme', EMPTY: '' })
  if (!entries.ok) return [formatProblem(entries.error)]
  return entries.value.flatMap(({ problems }) => problems.map(formatProblem))
}

/** The messages about a document whose other parts are right, each without the object. */
function about(kind: string, body: string): string[] {
  const prefix = `f.yaml#1 ${kind.split(' ')[1]}/x: `
  const [apiVersion, name] = kind.split(' ')
  const found = messages(`apiVersion: ${apiVersion}\nkind: ${name}\n${body}`)
  return found.map((line) => (line.startsWith(prefix) ? line.slice(prefix.length) : line))
}

const TETRATE = 'metadata: {organization: acme, tenant: eng, workspace: w, name: x}'

t.test('each mistake is one message with its field', async (t) => {
  const rows: readonly (readonly [kind: string, body: string, message: string])[] = [
    [
      'v1 Service',
      'metadata: {name: x}\nspec: {ports: [{port: "x"}]}',
      'spec.ports[0].port: expected a number 1-65535, found "x"',
    ],
    [
      'v1 Service',
      'metadata: {name: x}\nspec: {ports: [{port: 70000}]}',
      'spec.ports[0].port: expected a number 1-65535, found 70000',
    ],
    [
      'v1 Service',
      'metadata: {name: x}\nspec: {ports: [{}]}',
      'spec.ports[0].port: expected a number 1-65535, found nothing',
    ],
    ['v1 Service', 'metadata: {name: x}\nspec: {}', 'spec.ports: expected a list of ports, found nothing'],
    [
      'v1 Service',
      'metadata: {name: x}\nspec: {ports: {port: 1}}',
      'spec.ports: expected a list, found a map',
    ],
    ['v1 Service', 'metadata: {name: x}\nspec: [1]', 'spec: expected a map, found a list'],
    [
      'v1 Service',
      'metadata: {name: x}\nspec: {ports: [{port: 1}, {port: 2, name: b}]}',
      'spec.ports: expected a name for each port where there are several',
    ],
    [
      'v1 Service',
      'metadata: {name: x}\nspec: {ports: [{port: 1, name: b}, {port: 2, name: b}]}',
      'spec.ports[1].name: expected a name of its own, "b" is taken',
    ],
    [
      'v1 Service',
      'metadata: {name: x}\nspec: {ports: [{port: 1, targetPort: Web}]}',
      'spec.ports[0].targetPort: expected a port name (lower-case letters, digits, "-", at most 15, one letter at least), found "Web"',
    ],
    [
      'v1 Service',
      'metadata: {name: x}\nspec: {type: Lb, ports: [{port: 1}]}',
      'spec.type: expected one of ClusterIP, NodePort, LoadBalancer, ExternalName, found "Lb"',
    ],
    [
      'v1 Service',
      'metadata: {name: x}\nspec: {ports: [{port: 1}], selector: {version: 1}}',
      'spec.selector.version: expected a string, found 1 (put it in quotes)',
    ],
    [
      'v1 Service',
      'metadata: {name: x, labels: {a/b/c: d}}\nspec: {ports: [{port: 1}]}',
      'metadata.labels["a/b/c"]: the key must be "name" or "prefix.example/name"',
    ],
    [
      'v1 Service',
      'metadata: {name: x, labels: {a: "b c"}}\nspec: {ports: [{port: 1}]}',
      'metadata.labels.a: expected a label value (letters, digits, "-", "_", ".", at most 63), found "b c"',
    ],
    [
      'v1 Service',
      'metadata: {name: x, namespace: A}\nspec: {ports: [{port: 1}]}',
      'metadata.namespace: expected a DNS label (lower-case letters, digits, "-", at most 63), found "A"',
    ],
    [
      'v1 Service',
      'metadata: {name: x}\nspec: {ports: [{port: 1}]}\nstatus: {loadBalancer: {ingress: [{ip: lb}]}}',
      'status.loadBalancer.ingress[0].ip: expected an IP address, found "lb"',
    ],
    [
      'v1beta1 Service',
      'metadata: {name: x}\nspec: {ports: [{port: 1}]}',
      'apiVersion: expected version v1, found "v1beta1"',
    ],
    ['v1 Namespace', 'metadata: {}', 'f.yaml#1 Namespace: metadata.name: expected a string, found nothing'],
    [
      'v1 Secret',
      'metadata: {name: x}\ndata: {pin: 123456}',
      'data.pin: expected a string, found a number (put it in quotes)',
    ],
    [
      'v1 Secret',
      'metadata: {name: x}\ndata: {pin: "no base64!"}',
      'data.pin: expected base64 text (use stringData for plain text)',
    ],
    [
      'v1 Pod',
      'metadata: {name: x}\nspec: {}',
      'spec.containers: expected a list of containers, found nothing',
    ],
    [
      'apps/v1 Deployment',
      'metadata: {name: x}\nspec: {replicas: -1, template: {spec: {containers: [{name: a}]}}}',
      'spec.replicas: expected a number 0-100000, found -1',
    ],
    [
      'discovery.k8s.io/v1 EndpointSlice',
      'metadata: {name: x}\naddressType: IPv4\nendpoints: [{addresses: ["::1"]}]',
      'endpoints[0].addresses[0]: expected an IPv4 address, found "::1"',
    ],
    [
      'discovery.k8s.io/v1 EndpointSlice',
      'metadata: {name: x}\naddressType: IPv4\nendpoints: [{addresses: [1.2.3.4], conditions: {ready: "yes"}}]',
      'endpoints[0].conditions.ready: expected true or false, found "yes"',
    ],
    [
      'install.tetrate.io/v1alpha1 IngressGateway',
      'metadata: {name: x}\nspec: {connectionDrainDuration: 5}',
      'spec.connectionDrainDuration: expected a duration such as 5s or 1m30s, found 5',
    ],
    [
      'install.tetrate.io/v1alpha1 IngressGateway',
      'metadata: {name: x}\nspec: {connectionDrainDuration: soon}',
      'spec.connectionDrainDuration: expected a duration such as 5s or 1m30s, found "soon"',
    ],
    [
      'install.tetrate.io/v1alpha1 Gateway',
      'metadata: {name: x}\nspec: {type: EAST}',
      'spec.type: expected one of UNIFIED, INGRESS, EGRESS, EASTWEST, found "EAST"',
    ],
    [
      'api.tsb.tetrate.io/v2 Workspace',
      'metadata: {organization: acme, name: x}\nspec: {namespaceSelector: {names: ["*/a"]}}',
      'metadata.tenant: expected a string, found nothing',
    ],
    [
      'api.tsb.tetrate.io/v2 Workspace',
      `${TETRATE}\nspec: {}`,
      'spec.namespaceSelector.names: expected a list of <cluster>/<namespace>, found nothing',
    ],
    [
      'api.tsb.tetrate.io/v2 Workspace',
      `${TETRATE}\nspec: {namespaceSelector: {names: [bookinfo]}}`,
      'spec.namespaceSelector.names[0]: expected <cluster>/<namespace> such as */bookinfo, c1/ns1 or c1/ns*, found "bookinfo"',
    ],
    [
      'api.tsb.tetrate.io/v2 WorkspaceSetting',
      `${TETRATE}\nspec: {defaultEastWestGatewaySettings: [{workloadSelector: {namespace: a, labels: {a: b}}, exposedService: []}]}`,
      'spec.defaultEastWestGatewaySettings[0].exposedService: is not a field here, expected one of workloadSelector, exposedServices, configGenerationMetadata',
    ],
    [
      'api.tsb.tetrate.io/v2 WorkspaceSetting',
      `${TETRATE}\nspec: {defaultEastWestGatewaySettings: [{workloadSelector: {namespace: a, labels: {a: b}}, exposedServices: [{serviceLabels: {}}]}]}`,
      'spec.defaultEastWestGatewaySettings[0].exposedServices[0].serviceLabels: expected the labels of the services, found an empty one',
    ],
    [
      'api.tsb.tetrate.io/v2 WorkspaceSetting',
      `${TETRATE}\nspec: {defaultEastWestGatewaySettings: [{workloadSelector: {namespace: a}}]}`,
      'spec.defaultEastWestGatewaySettings[0].workloadSelector.labels: expected the labels of the gateway pods, found nothing',
    ],
    [
      'api.tsb.tetrate.io/v2 OrganizationSetting',
      `${TETRATE}\nspec: {networkSettings: {networkReachability: {a: [b]}}}`,
      'spec.networkSettings.networkReachability.a: expected a string, found a list',
    ],
    [
      'api.tsb.tetrate.io/v2 Cluster',
      `${TETRATE}\nspec: {trustDomain: "spiffe://a"}`,
      'spec.trustDomain: expected a SPIFFE trust domain (a-z 0-9 . _ -), found "spiffe://a"',
    ],
    [
      'tsb.tetrate.io/v2 Cluster',
      'metadata: {organization: acme, name: x, annotations: {tsb.tetrate.io/organization: other}}\nspec: {}',
      'metadata.organization: expected the same name as metadata.annotations["tsb.tetrate.io/organization"], which says "other"',
    ],
    [
      'networking.istio.io/v1 ServiceEntry',
      'metadata: {name: x}\nspec: {hosts: [a.b], resolution: STATIC, ports: [{name: p, number: 1}], endpoints: [{address: gw.example.com}]}',
      'spec.endpoints[0].address: expected an IP address, found "gw.example.com"',
    ],
    [
      'networking.istio.io/v1 ServiceEntry',
      'metadata: {name: x}\nspec: {hosts: [a.b], ports: [{name: p, number: 1}], endpoints: [{address: a, ports: {q: 1}}]}',
      'spec.endpoints[0].ports.q: expected the name of a port in spec.ports',
    ],
    [
      'api.tsb.tetrate.io/v2 Cluster',
      'metadata: {organization: acme, name: x, annotations: {isthmus.io/peer-lease: forever}}\nspec: {}',
      'metadata.annotations["isthmus.io/peer-lease"]: expected a duration such as 5s or 1m30s, found "forever"',
    ],
    [
      'api.tsb.tetrate.io/v2 Cluster',
      'metadata: {organization: acme, name: x, annotations: {isthmus.io/on-peer-loss: drop}}\nspec: {}',
      'metadata.annotations["isthmus.io/on-peer-loss"]: expected one of keep, withdraw, found "drop"',
    ],
  ]
  for (const [kind, body, message] of rows) t.strictSame(about(kind, body), [message], `${kind}: ${message}`)
})

t.test('all mistakes of a document are named at once', async (t) => {
  const found = about(
    'v1 Service',
    'metadata: {name: x, labels: 3}\nspec: {type: 1, ports: [{port: a}, {port: 2}]}',
  )
  t.equal(found.length, 4, found.join('\n'))
})

t.test('a missing value names the variable, the file and the field', async (t) => {
  const text =
    'apiVersion: api.tsb.tetrate.io/v2\nkind: Workspace\nmetadata: {organization: "${ORG}", tenant: "${TEN}", name: w}\nspec: {namespaceSelector: {names: ["*/a"]}}'
  t.strictSame(messages(text), [
    'f.yaml#1 Workspace/w: metadata.tenant: ${TEN} is not set, neither in the environment nor by a flag',
  ])
  t.match(
    messages(text.replace('TEN', 'EMPTY')),
    [/\$\{EMPTY\} is not set/],
    'an empty value is as good as none',
  )
})

t.test('what is no Kubernetes object, or no YAML, says so', async (t) => {
  t.strictSame(messages('just text'), [
    'f.yaml#1: expected a Kubernetes object with apiVersion, kind and metadata',
  ])
  t.strictSame(messages('kind: Service'), [
    'f.yaml#1 Service: apiVersion: expected a string, as every Kubernetes object has',
  ])
  t.match(messages('a: [1\nb: 2'), [/^f\.yaml: does not parse as YAML: .* at line 2, column 1$/])
  t.match(messages('a: 1\na: 2'), [/does not parse as YAML: Map keys must be unique/])
  t.match(messages('[&a [*a, *b]]'), [/does not parse as YAML: .*Unresolved alias/])
  const bomb = `a: &a [x]\n${Array.from({ length: 12 }, (_, i) => `b${i}: &b${i} [${'*a,'.repeat(9)}${i > 0 ? `*b${i - 1},*b${i - 1},*b${i - 1}` : ''}]`).join('\n')}`
  t.match(messages(bomb), [/does not parse as YAML: Excessive alias count/])
  t.match(messages('['.repeat(5_000)), [/does not parse as YAML/])
})

t.test('one broken document leaves the others of the file alone', async (t) => {
  const good = (name: string) => `apiVersion: v1\nkind: Namespace\nmetadata: {name: ${name}}\n`
  const entries = parseManifestFile([good('a'), good('B'), good('c')].join('---\n'), 'f.yaml', {})
  t.ok(entries.ok)
  if (entries.ok)
    t.strictSame(
      entries.value.map(({ object }) => object?.metadata.name),
      ['a', undefined, 'c'],
    )
})
