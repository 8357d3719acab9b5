import t from 'tap'
import { selectProtocol } from '../../src/model/protocol.ts'
import type { Model, ModelPort } from '../../src/model/types.ts'
import { modelOf, said } from './build.ts'

const port = (model: Model, number: number, name = 'web'): ModelPort | undefined =>
  model.services.find((service) => service.name === name)?.ports.find((each) => each.number === number)
const addresses = (found: ModelPort | undefined): string[] =>
  (found?.endpoints ?? []).map(({ address, port }) => `${address}:${port}`)

/** One Service `web` in `ns`, and EndpointSlices given as [name, addressType, ports, endpoints] in flow YAML. */
function world(
  ports: string,
  slices: readonly (readonly [string, string, string])[],
  more = '',
  spec = '',
): Model {
  const documents = slices.map(
    ([type, ports, endpoints], i) => `---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-${i}, namespace: ns, labels: {kubernetes.io/service-name: web}}
addressType: ${type}
ports: ${ports}
endpoints: ${endpoints}
`,
  )
  return modelOf(`apiVersion: v1
kind: Service
metadata: {name: web, namespace: ns, labels: {app: web}}
spec: {selector: {app: web}, ports: ${ports}${spec}}
${documents.join('')}${more}`)
}

t.test('a port is not its target port, which may differ from slice to slice', async (t) => {
  const model = world(
    '[{name: http, port: 80, targetPort: web}, {name: admin, port: 9000, targetPort: 9001}]',
    [
      ['IPv4', '[{name: http, port: 8080}, {name: admin, port: 9001}]', '[{addresses: [10.0.0.1]}]'],
      ['IPv4', '[{name: http, port: 8081}, {name: admin, port: 9001}]', '[{addresses: [10.0.0.2]}]'],
    ],
  )
  t.same(addresses(port(model, 80)), ['10.0.0.1:8080', '10.0.0.2:8081'])
  t.same(addresses(port(model, 9000)), ['10.0.0.1:9001', '10.0.0.2:9001'])
  t.equal(port(model, 8080), undefined)
  t.same(said(model, 'Service/ns/web'), [])
})

t.test('an unnamed port meets the unnamed port of the slice only', async (t) => {
  t.same(
    addresses(port(world('[{port: 80}]', [['IPv4', '[{port: 8080}]', '[{addresses: [10.0.0.1]}]']]), 80)),
    ['10.0.0.1:8080'],
  )
  t.same(
    addresses(
      port(world('[{port: 80}]', [['IPv4', '[{name: x, port: 8080}]', '[{addresses: [10.0.0.1]}]']]), 80),
    ),
    [],
  )
})

t.test('IPv4, IPv6 and both; FQDN is refused by name', async (t) => {
  const model = world('[{port: 80}]', [
    ['IPv4', '[{port: 8080}]', '[{addresses: [10.0.0.1]}]'],
    ['IPv6', '[{port: 8080}]', '[{addresses: ["fd00::1"]}]'],
    ['FQDN', '[{port: 8080}]', '[{addresses: [pod.example.com]}]'],
  ])
  t.same(addresses(port(model, 80)), ['10.0.0.1:8080', 'fd00::1:8080'])
  t.match(said(model, 'EndpointSlice/ns/web-2'), [
    /Accepted=False UnsupportedAddressType: addressType: "FQDN"/,
  ])
})

t.test('ready, serving and terminating', async (t) => {
  const slice = (endpoints: string, spec = '') =>
    port(world('[{port: 80}]', [['IPv4', '[{port: 8080}]', endpoints]], '', spec), 80)?.endpoints
  t.match(slice('[{addresses: [10.0.0.1]}]'), [{ ready: true, draining: false }])
  t.match(slice('[{addresses: [10.0.0.1], conditions: {ready: false}}]'), [{ ready: false, draining: false }])
  t.match(slice('[{addresses: [10.0.0.1], conditions: {ready: false, serving: true, terminating: true}}]'), [
    { ready: false, draining: true },
  ])
  t.match(slice('[{addresses: [10.0.0.1], conditions: {ready: false, serving: false, terminating: true}}]'), [
    { ready: false, draining: false },
  ])
  const published = ', publishNotReadyAddresses: true'
  t.match(slice('[{addresses: [10.0.0.1], conditions: {ready: false}}]', published), [
    { ready: true, draining: false },
  ])
})

t.test('an endpoint that two slices hold while it moves counts once, ready if either says so', async (t) => {
  const model = world('[{port: 80}]', [
    ['IPv4', '[{port: 8080}]', '[{addresses: [10.0.0.1], conditions: {ready: true}}]'],
    [
      'IPv4',
      '[{port: 8080}]',
      '[{addresses: [10.0.0.1], conditions: {ready: false}}, {addresses: [10.0.0.2]}]',
    ],
  ])
  t.match(port(model, 80)?.endpoints, [{ address: '10.0.0.1', ready: true }, { address: '10.0.0.2' }])
})

t.test('labels, zone and service account come from the pod and the slice', async (t) => {
  const pods = `---
apiVersion: v1
kind: Pod
metadata: {name: web-a, namespace: ns, labels: {app: web, version: v2}}
spec: {serviceAccountName: web-sa, containers: [{name: main, image: main}]}
`
  const model = world(
    '[{port: 80}]',
    [
      [
        'IPv4',
        '[{port: 8080}]',
        '[{addresses: [10.0.0.1], zone: z1, targetRef: {kind: Pod, name: web-a}}, {addresses: [10.0.0.2]}]',
      ],
    ],
    pods,
  )
  t.match(port(model, 80)?.endpoints, [
    { podName: 'web-a', zone: 'z1', labels: { version: 'v2' }, serviceAccount: 'web-sa' },
    { podName: '', labels: {}, serviceAccount: '' },
  ])
})

t.test('only TCP is carried', async (t) => {
  const mixed = world('[{name: dns, port: 53, protocol: UDP}, {name: dns-tcp, port: 53}]', [
    [
      'IPv4',
      '[{name: dns, port: 5353, protocol: UDP}, {name: dns-tcp, port: 5354}]',
      '[{addresses: [10.0.0.1]}]',
    ],
  ])
  t.same(addresses(port(mixed, 53)), ['10.0.0.1:5354'])
  t.match(said(mixed, 'Service/ns/web'), [/Accepted=True PortsIgnored: spec.ports: 53\/UDP/])
  const udp = world('[{name: dns, port: 53, protocol: UDP}]', [])
  t.match(said(udp, 'Service/ns/web'), [/Accepted=False NoTcpPort: spec.ports/])
})

const POD = `---
apiVersion: v1
kind: Pod
metadata: {name: web-a, namespace: ns, labels: {app: web}}
spec: {containers: [{name: main, image: main, ports: [{name: http, containerPort: 8080}]}]}
`
t.test('a port name that nothing defines is named', async (t) => {
  const typo = world('[{port: 80, targetPort: htpp}]', [], POD)
  t.match(said(typo, 'Service/ns/web'), [
    /ResolvedRefs=False UnknownPortName: spec.ports\[0\].targetPort: no container port named "htpp" in the 1 pods/,
  ])
  const right = world('[{port: 80, targetPort: http}]', [], POD)
  t.match(said(right, 'Service/ns/web'), [
    /ResolvedRefs=False NoEndpoints: spec.selector: app=web has no endpoints \(1 pods match\)/,
  ])
})

t.test('one broken Service costs the others nothing', async (t) => {
  const more = `---
apiVersion: v1
kind: Service
metadata: {name: far, namespace: ns}
spec: {type: ExternalName, externalName: example.com, ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: lost, namespace: ns, labels: {kubernetes.io/service-name: gone}}
addressType: IPv4
ports: [{port: 1}]
endpoints: [{addresses: [10.0.0.9]}]
`
  const model = world('[{port: 80}]', [['IPv4', '[{port: 8080}]', '[{addresses: [10.0.0.1]}]']], more)
  t.same(
    model.services.map((service) => service.host),
    ['web.ns.svc.cluster.local'],
  )
  t.match(said(model, 'Service/ns/far'), [/Accepted=False InvalidServiceType: spec.type/])
  t.match(said(model, 'EndpointSlice/ns/lost'), [
    /ResolvedRefs=False NoService: .*no Service "gone" in namespace "ns"/,
  ])
})

t.test('the protocol, as Istio selects it', async (t) => {
  const cases: readonly (readonly [string, string | undefined, ModelPort['protocol']])[] = [
    ['http', undefined, 'http'],
    ['http-web', undefined, 'http'],
    ['HTTP2-x', undefined, 'http2'],
    ['grpc', undefined, 'grpc'],
    ['grpc-web-x', undefined, 'http'],
    ['https', undefined, 'https'],
    ['tls', undefined, 'tls'],
    ['mongo-db', undefined, 'mongo'],
    ['web', undefined, 'tcp'],
    ['httpx', undefined, 'tcp'],
    ['', undefined, 'tcp'],
    ['tcp', 'http', 'http'],
    ['http', 'tcp', 'tcp'],
    ['http', 'example.com/own', 'tcp'],
    ['x', 'kubernetes.io/h2c', 'http2'],
    ['x', 'kubernetes.io/ws', 'http'],
    ['x', 'kubernetes.io/wss', 'https'],
  ]
  for (const [name, appProtocol, expected] of cases)
    t.equal(selectProtocol(name, appProtocol), expected, `${name} ${appProtocol}`)
})
