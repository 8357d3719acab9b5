import t from 'tap'
import { ClusterSchema } from '../../src/xds/gen/envoy/config/cluster/v3/cluster_pb.js'
import { ListenerSchema } from '../../src/xds/gen/envoy/config/listener/v3/listener_pb.js'
import { decodeResource, encodeResource, rawResource, typeUrlOf } from '../../src/xds/resource.ts'
import { TYPE } from '../../src/xds/types.ts'
import { cluster } from './fixtures.ts'

t.test('equal content has an equal version', async (t) => {
  t.equal(cluster('a').version, cluster('a').version)
  t.not(cluster('a').version, cluster('a', 2).version)
  t.equal(typeUrlOf(ClusterSchema), TYPE.cluster)
})

t.test('a resource is read back; another type or garbage is a problem that names it', async (t) => {
  const one = encodeResource(ClusterSchema, { name: 'a', altStatName: 'x' }, 'a')
  t.match(decodeResource(ClusterSchema, one), { ok: true, value: { name: 'a', altStatName: 'x' } })
  t.match(decodeResource(ListenerSchema, one), { ok: false, error: { object: 'a', field: 'type_url' } })
  const garbage = rawResource('g', TYPE.cluster, Buffer.from([0x0a, 0xff, 0xff]))
  t.match(decodeResource(ClusterSchema, garbage), {
    ok: false,
    error: { object: 'g', message: /not a valid envoy/ },
  })
  t.ok(
    decodeResource(ClusterSchema, { ...one, anyTypeUrl: 'example.com/envoy.config.cluster.v3.Cluster' }).ok,
  )
  const unknownField = Buffer.concat([one.body, Buffer.from([0xfa, 0x7f, 0x01, 0x41])])
  t.ok(
    decodeResource(ClusterSchema, rawResource('u', TYPE.cluster, unknownField)).ok,
    'a newer server may say more',
  )
})
