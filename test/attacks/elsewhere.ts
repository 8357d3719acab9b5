// Rows of the catalogue of attacks that are no input to a port of the data plane, or need more than one connection: where they are
// tested instead, or why they cannot apply.

export interface Elsewhere {
  readonly rows: string
  readonly title: string
  /** Test files, relative to the root; empty where `why` says why there is none. */
  readonly tests: readonly string[]
  readonly why?: string
}

export const ELSEWHERE: readonly Elsewhere[] = [
  { rows: '23', title: 'sessions after a CA was removed', tests: ['test/differential/differential.test.ts'] },
  { rows: '24', title: 'the name of a resumed session', tests: [], why: 'nothing is resumed' },
  {
    rows: '32-38',
    title: 'SVIDs, rule by rule, on DER',
    tests: ['test/identity/malformed-svids.test.ts', 'test/identity/certificate-fuzz.test.ts'],
  },
  {
    rows: '37',
    title: 'revoked, and lists that have expired',
    tests: ['test/identity/crl.test.ts', 'test/proxy/revocation.test.ts'],
  },
  {
    rows: '40',
    title: 'stalled readers and writers, writes of one byte',
    tests: ['test/differential/differential.test.ts', 'test/proxy/gateway.test.ts'],
  },
  { rows: '41', title: 'descriptors that run out', tests: ['test/faults/faults-limits.ts'] },
  {
    rows: '42',
    title: 'upstreams that refuse, hang, slam; addresses that no endpoint may name',
    tests: ['test/differential/differential.test.ts', 'test/proxy/hostile-endpoints.test.ts'],
  },
  {
    rows: '43',
    title: 'an endpoint that is the gateway itself',
    tests: ['test/proxy/hostile-endpoints.test.ts'],
  },
  {
    rows: '44-45',
    title: 'floods and malformed messages at xDS',
    tests: ['test/xds/floods.test.ts', 'test/xds/server.test.ts'],
  },
  { rows: '46', title: 'events of the Kubernetes API', tests: [], why: 'the Kubernetes API is not read yet' },
  {
    rows: '47',
    title: 'requests for certificates of others',
    tests: [],
    why: 'our CA issues from its own key file alone; no request reaches it over a network',
  },
  {
    rows: '48',
    title: 'names that collide in hash tables',
    tests: [],
    why: 'V8 and JSC seed their hashes, and names have 255 bytes at most',
  },
]
