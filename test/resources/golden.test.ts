// What the story's gateway and sidecars of every kind are sent, whole, as ProtoJSON: any change of it shows in review.
// Fields that the generated code does not know (RBAC principals, connect mode) are not in it: gateway-resources.test.ts has them.
// `UPDATE_GOLDEN=1 node test/resources/golden.test.ts` writes the files anew.
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createRegistry, type DescMessage, fromBinary, toJson } from '@bufbuild/protobuf'
import t from 'tap'
import { parseBindRange } from '../../src/resources/bind-address.ts'
import { gatewayResources } from '../../src/resources/gateway-resources.ts'
import { grpcResources } from '../../src/resources/grpc-resources.ts'
import { decodeNameTable } from '../../src/resources/name-table.ts'
import { exportEntries } from '../../src/resources/service-entry-export.ts'
import { entryManifest } from '../../src/resources/service-entry-manifest.ts'
import { sidecarResources } from '../../src/resources/sidecar-resources.ts'
import { ClusterSchema } from '../../src/xds/gen/envoy/config/cluster/v3/cluster_pb.js'
import { ClusterLoadAssignmentSchema } from '../../src/xds/gen/envoy/config/endpoint/v3/endpoint_pb.js'
import { ListenerSchema } from '../../src/xds/gen/envoy/config/listener/v3/listener_pb.js'
import { RouteConfigurationSchema } from '../../src/xds/gen/envoy/config/route/v3/route_pb.js'
import { ClusterConfigSchema } from '../../src/xds/gen/envoy/extensions/clusters/aggregate/v3/cluster_pb.js'
import { RouterSchema } from '../../src/xds/gen/envoy/extensions/filters/http/router/v3/router_pb.js'
import { TlsInspectorSchema } from '../../src/xds/gen/envoy/extensions/filters/listener/tls_inspector/v3/tls_inspector_pb.js'
import { HttpConnectionManagerSchema } from '../../src/xds/gen/envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager_pb.js'
import { RBACSchema } from '../../src/xds/gen/envoy/extensions/filters/network/rbac/v3/rbac_pb.js'
import { SniClusterSchema } from '../../src/xds/gen/envoy/extensions/filters/network/sni_cluster/v3/sni_cluster_pb.js'
import { TcpProxySchema } from '../../src/xds/gen/envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy_pb.js'
import { DnsFilterConfigSchema } from '../../src/xds/gen/envoy/extensions/filters/udp/dns_filter/v3/dns_filter_pb.js'
import { CaresDnsResolverConfigSchema } from '../../src/xds/gen/envoy/extensions/network/dns_resolver/cares/v3/cares_dns_resolver_pb.js'
import { PreviousHostsPredicateSchema } from '../../src/xds/gen/envoy/extensions/retry/host/previous_hosts/v3/previous_hosts_pb.js'
import { RawBufferSchema } from '../../src/xds/gen/envoy/extensions/transport_sockets/raw_buffer/v3/raw_buffer_pb.js'
import { SecretSchema } from '../../src/xds/gen/envoy/extensions/transport_sockets/tls/v3/secret_pb.js'
import {
  DownstreamTlsContextSchema,
  UpstreamTlsContextSchema,
} from '../../src/xds/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.js'
import { SPIFFECertValidatorConfigSchema } from '../../src/xds/gen/envoy/extensions/transport_sockets/tls/v3/tls_spiffe_validator_config_pb.js'
import { HttpProtocolOptionsSchema } from '../../src/xds/gen/envoy/extensions/upstreams/http/v3/http_protocol_options_pb.js'
import { type Snapshot, TYPE } from '../../src/xds/types.ts'
import { gateway, modelOf, peer, reachability, service, setting, workspace, yamlOf } from './world.ts'

const SCHEMAS: Readonly<Record<string, DescMessage>> = {
  [TYPE.listener]: ListenerSchema,
  [TYPE.cluster]: ClusterSchema,
  [TYPE.endpoints]: ClusterLoadAssignmentSchema,
  [TYPE.secret]: SecretSchema,
  [TYPE.route]: RouteConfigurationSchema,
}
const registry = createRegistry(
  ...Object.values(SCHEMAS),
  TlsInspectorSchema,
  RBACSchema,
  SniClusterSchema,
  TcpProxySchema,
  RawBufferSchema,
  DownstreamTlsContextSchema,
  UpstreamTlsContextSchema,
  SPIFFECertValidatorConfigSchema,
  HttpConnectionManagerSchema,
  RouterSchema,
  PreviousHostsPredicateSchema,
  HttpProtocolOptionsSchema,
  DnsFilterConfigSchema,
  CaresDnsResolverConfigSchema,
  ClusterConfigSchema,
)

const bundles = ['cluster-1', 'cluster-2'].map((name) => ({
  trustDomain: `${name}.local`,
  pem: `(PEM of ${name})`,
}))
const networks = reachability(['cluster-1', 'cluster-2'], { 'cluster-2-network': 'cluster-1-network' })
const serving = modelOf(
  service({ name: 'productpage', pods: ['10.0.1.10:8080', '10.0.1.11:8080'] }) +
    gateway('203.0.113.10') +
    workspace +
    setting() +
    networks +
    peer('cluster-2', 'PEM'),
)
const entries = exportEntries([...serving.exposures.values()], serving.gateways, serving.self)

function jsonOf(snapshot: Snapshot): unknown {
  return Object.fromEntries(
    [...snapshot].map(([typeUrl, resources]) => [
      typeUrl,
      [...resources.values()].map(({ body }) => {
        const schema = SCHEMAS[typeUrl]
        return schema === undefined
          ? Object.fromEntries(decodeNameTable(body))
          : toJson(schema, fromBinary(schema, body), { registry })
      }),
    ]),
  )
}

function compare(
  t: { strictSame(found: unknown, wanted: unknown): boolean },
  name: string,
  found: unknown,
): void {
  const file = join(import.meta.dirname, 'golden', `${name}.json`)
  if (process.env['UPDATE_GOLDEN'] === '1') writeFileSync(file, `${JSON.stringify(found, null, 2)}\n`)
  t.strictSame(JSON.parse(JSON.stringify(found)), JSON.parse(readFileSync(file, 'utf8')))
}

const gatewayOf = (issuers: boolean) => {
  const options = {
    bind: { address: '0.0.0.0', port: 15443 },
    bundles,
    secrets: true,
    credentialFile: '',
    issuers,
  }
  return jsonOf(gatewayResources(serving, serving.gateways[0], options).snapshot())
}

t.test('gateway of cluster-1', async (t) => {
  compare(t, 'gateway', gatewayOf(true))
})

t.test('gateway of cluster-1, where it is an Envoy', async (t) => {
  compare(t, 'gateway-envoy', gatewayOf(false))
})

const calling = modelOf(yamlOf(...entries.map(entryManifest)) + networks, 'cluster-2')

t.test('sidecar of cluster-2', async (t) => {
  const bind = parseBindRange('127.240.0.0/16')
  if (!bind.ok) throw new Error(bind.error)
  const options = { bind: bind.value, bundles, secrets: true, hostNames: true, credentialFile: '' }
  compare(t, 'sidecar', jsonOf(sidecarResources(calling, options).snapshot()))
})

t.test('an Envoy as sidecar of cluster-2, with DNS', async (t) => {
  const bind = parseBindRange('127.240.0.0/16')
  if (!bind.ok) throw new Error(bind.error)
  const dns = {
    listen: { address: '127.0.0.1', port: 53 },
    resolvers: [{ address: '10.96.0.10', port: 53 }],
  }
  const options = {
    ...{ bind: bind.value, bundles, secrets: true, hostNames: false, http: true, dns },
    credentialFile: '/run/isthmus/sds.yaml',
  }
  compare(t, 'envoy-sidecar', jsonOf(sidecarResources(calling, options).snapshot()))
})

t.test('a gRPC client of cluster-2', async (t) => {
  compare(t, 'grpc', jsonOf(grpcResources(calling).snapshot()))
})

t.test('ServiceEntries that cluster-2 is sent', async (t) => {
  compare(t, 'service-entries', entries.map(entryManifest))
})
