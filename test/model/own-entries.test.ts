import t from 'tap'
import { modelOf, said } from './build.ts'

const HOST = 'reviews.bookinfo.svc.cluster.local'
const NAME = 'global-gwinternal-reviews-bookinfo-svc-cluster-local'

const entry = (
  name: string,
  namespace: string,
  address: string,
  { host = HOST, managed = false, id = '', exportTo = '*' } = {},
): string => `---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: ${name}, namespace: ${namespace}${managed ? ', labels: {app.kubernetes.io/managed-by: isthmus}' : ''}}
spec:
  hosts: [${host}]
  location: MESH_INTERNAL
  resolution: STATIC
  exportTo: ["${exportTo}"]
  subjectAltNames: [${id}]
  ports: [{name: http, number: 9080, protocol: HTTP}]
  endpoints: [{address: ${address}, ports: {http: 15443}, labels: {xcp.tetrate.io/cluster: ${managed ? 'c2' : 'mine'}}}]
`
const IMPORT = entry(NAME, 'xcp-multicluster', '192.0.2.1', {
  managed: true,
  id: 'spiffe://c2.local/ns/gw/sa/east',
})
const addresses = (yaml: string): string[] =>
  modelOf(yaml).imports.flatMap(({ endpoints }) => endpoints.map(({ address }) => address))

t.test("a user's own entry stands instead of what is imported, and both say so", async (t) => {
  for (const namespace of ['bookinfo', 'istio-system', 'xcp-multicluster']) {
    const yaml = IMPORT + entry('mine', namespace, '198.51.100.1', { id: 'spiffe://mine.local/ns/a/sa/b' })
    const model = modelOf(yaml)
    t.match(
      model.imports,
      [
        {
          source: `ServiceEntry/${namespace}/mine`,
          endpoints: [{ address: '198.51.100.1' }],
          subjectAltNames: ['spiffe://mine.local/ns/a/sa/b'],
          overrides: true,
        },
      ],
      namespace,
    )
    t.equal(model.imports[0]?.endpoints.length, 1, 'no endpoint of the import beside it')
    t.match(said(model, `ServiceEntry/${namespace}/mine`), [
      /^Accepted=True OverridesImport: .*"reviews\.bookinfo\.svc\.cluster\.local" is imported from c2 too/,
    ])
    t.match(said(model, `ServiceEntry/xcp-multicluster/${NAME}`), [
      new RegExp(`^Accepted=False Overridden: .*described by ServiceEntry/${namespace}/mine`),
    ])
  }
})

t.test('several of his own add up', async (t) => {
  const yaml = IMPORT + entry('a', 'bookinfo', '198.51.100.1') + entry('b', 'bookinfo', '198.51.100.2')
  t.strictSame(addresses(yaml), ['198.51.100.1', '198.51.100.2'])
})

t.test("an entry of another namespace does not take an imported host's callers", async (t) => {
  const model = modelOf(IMPORT + entry('thief', 'elsewhere', '198.51.100.1'))
  t.strictSame(
    model.imports.map(({ endpoints, overrides }) => [endpoints.map(({ address }) => address), overrides]),
    [[['192.0.2.1'], undefined]],
  )
  t.match(said(model, 'ServiceEntry/elsewhere/thief'), [
    /^Accepted=False HostConflict: .*is imported; only an entry of namespace "bookinfo" or "istio-system" speaks for it/,
  ])
})

t.test('nor those of a service of this cluster', async (t) => {
  const local = `---
apiVersion: v1
kind: Service
metadata: {name: reviews, namespace: bookinfo}
spec: {ports: [{port: 9080, name: http}]}
`
  const model = modelOf(local + entry('thief', 'elsewhere', '198.51.100.1'))
  t.strictSame(model.imports, [])
  t.match(said(model, 'ServiceEntry/elsewhere/thief'), [
    /HostConflict: .*is a service of namespace "bookinfo" of this/,
  ])
  t.strictSame(addresses(local + entry('mine', 'bookinfo', '198.51.100.1')), ['198.51.100.1'])
})

t.test('where nobody else speaks for a host, whoever names it does', async (t) => {
  t.strictSame(
    addresses(entry('a', 'elsewhere', '198.51.100.1')),
    ['198.51.100.1'],
    'hand-written, from anywhere',
  )
  const host = 'api.example.com'
  t.strictSame(addresses(IMPORT + entry('a', 'elsewhere', '198.51.100.1', { host })), [
    '198.51.100.1',
    '192.0.2.1',
  ])
})

t.test('what is not for everybody overrides nothing', async (t) => {
  t.strictSame(addresses(IMPORT + entry('mine', 'bookinfo', '198.51.100.1', { exportTo: '.' })), [
    '192.0.2.1',
  ])
})
