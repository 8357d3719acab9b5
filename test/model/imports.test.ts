import t from 'tap'
import { modelOf, said } from './build.ts'

const entry = (name: string, spec: string) => `---
apiVersion: networking.istio.io/v1beta1
kind: ServiceEntry
metadata: {name: ${name}, namespace: xcp-multicluster}
spec: {location: MESH_INTERNAL, resolution: STATIC, ${spec}}
`
const HOST = 'reviews.bookinfo.svc.cluster.local'

t.test('a ServiceEntry as the reference product writes it', async (t) => {
  const model = modelOf(
    entry(
      'r',
      `hosts: [${HOST}], exportTo: ["*"], subjectAltNames: [spiffe://c2.local/ns/gw/sa/east], ports: [{name: http, number: 9080, protocol: HTTP}],
  endpoints: [{address: 192.0.2.1, ports: {http: 15443}, locality: eu/a, labels: {network: vpc-2, security.istio.io/tlsMode: istio, xcp.tetrate.io/cluster: c2}}]`,
    ),
  )
  t.same(model.imports, [
    {
      host: HOST,
      name: 'reviews',
      namespace: 'bookinfo',
      ports: [{ name: 'http', number: 9080, protocol: 'http' }],
      endpoints: [
        {
          address: '192.0.2.1',
          ports: { http: 15443 },
          cluster: 'c2',
          network: 'vpc-2',
          locality: 'eu/a',
          mtls: true,
          weight: 1,
        },
      ],
      subjectAltNames: ['spiffe://c2.local/ns/gw/sa/east'],
      source: 'ServiceEntry/xcp-multicluster/r',
    },
  ])
})

t.test('entries of one host add up, under the port names of the first', async (t) => {
  const model = modelOf(
    entry(
      'a',
      `hosts: [${HOST}], ports: [{name: http, number: 80, protocol: HTTP}], endpoints: [{address: 192.0.2.1, ports: {http: 15443}}]`,
    ) +
      entry(
        'b',
        `hosts: [${HOST}], ports: [{name: web, number: 80, protocol: HTTP}, {name: tcp, number: 90, protocol: TCP}], endpoints: [{address: 192.0.2.2, ports: {web: 15444, tcp: 15445}}]`,
      ),
  )
  t.equal(model.imports.length, 1)
  t.match(model.imports[0], {
    ports: [
      { name: 'http', number: 80 },
      { name: 'tcp', number: 90 },
    ],
    endpoints: [
      { address: '192.0.2.1', ports: { http: 15443 } },
      { address: '192.0.2.2', ports: { http: 15444, tcp: 15445 } },
    ],
    source: 'ServiceEntry/xcp-multicluster/a, ServiceEntry/xcp-multicluster/b',
  })
})

t.test('endpoint ports default to targetPort, then to the port', async (t) => {
  const model = modelOf(
    entry(
      'a',
      `hosts: [${HOST}], ports: [{name: x, number: 80, protocol: TCP, targetPort: 8080}, {name: y, number: 90, protocol: TCP}], endpoints: [{address: 192.0.2.1}]`,
    ),
  )
  t.same(model.imports[0]?.endpoints[0]?.ports, { x: 8080, y: 90 })
})

t.test('a host that is no Kubernetes service has no short names', async (t) => {
  const model = modelOf(
    entry(
      'a',
      'hosts: [secure.public.mesh], ports: [{name: x, number: 80, protocol: TCP}], endpoints: [{address: 192.0.2.1}]',
    ),
  )
  t.match(model.imports, [{ host: 'secure.public.mesh', name: '', namespace: '' }])
})

t.test('what cannot be imported is said, and the rest of the entry counts', async (t) => {
  const long = `${'a.'.repeat(120)}example`
  const ports = 'ports: [{name: x, number: 80, protocol: TCP}]'
  const one = 'endpoints: [{address: 192.0.2.1}]'
  const model = modelOf(
    entry('wild', `hosts: ["*.example.com", ok.example.com], ${ports}, ${one}`) +
      entry('long', `hosts: [${long}], ${ports}, ${one}`) +
      entry('none', `hosts: [api.example.com], ${ports}`) +
      entry('hidden', `hosts: [b.example.com], exportTo: ["."], ${ports}, ${one}`) +
      entry('p1', `hosts: [c.example.com], ports: [{name: x, number: 80, protocol: HTTP}], ${one}`) +
      entry('p2', `hosts: [c.example.com], ports: [{name: x, number: 80, protocol: TCP}], ${one}`),
  )
  t.same(
    model.imports.map((each) => each.host),
    [long, 'c.example.com', 'ok.example.com'],
    'a name too long for TLS has an alias there',
  )
  const about = (name: string) => said(model, `ServiceEntry/xcp-multicluster/${name}`).join('\n')
  t.match(
    about('wild'),
    /Accepted=False UnsupportedHost: spec.hosts: "\*.example.com" is not a plain DNS name/,
  )
  t.equal(about('long'), '')
  t.match(about('none'), /NoEndpoints: spec.endpoints/)
  t.match(about('hidden'), /NotExported: spec.exportTo/)
  t.match(
    about('p2'),
    /PortConflict: spec.ports: port 80 is http in another ServiceEntry of the host, here tcp/,
  )
  t.equal(about('p1'), '')
})
