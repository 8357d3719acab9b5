// A ClusterLoadAssignment from plain data to the bytes and the version that go out.
import { loadAssignment } from '../../src/resources/endpoints.ts'
import { ClusterLoadAssignmentSchema } from '../../src/xds/gen/envoy/config/endpoint/v3/endpoint_pb.js'
import { encodeResource } from '../../src/xds/resource.ts'
import type { Micro } from './micro.ts'

const NAME = 'outbound_.9080_._.productpage.bookinfo.svc.cluster.local'

function encode(count: number): Micro['once'] {
  const endpoints = Array.from({ length: count }, (_, i) => ({
    ...{ address: `10.0.${i >> 8}.${i & 255}`, port: 9_080, region: 'eu', zone: `eu-${i % 3}`, priority: 0 },
    ...{ weight: 1, draining: false, mtls: true, workload: 'spiffe://bench.local/ns/bench/sa/productpage' },
  }))
  return () => encodeResource(ClusterLoadAssignmentSchema, loadAssignment(NAME, endpoints), NAME)
}

export function resourceEncodeMicros(): Micro[] {
  const beside = 'encode an assignment of 10 endpoints'
  return [
    { name: beside, once: encode(10) },
    { name: 'encode an assignment of 100 endpoints', beside, once: encode(100) },
  ]
}
