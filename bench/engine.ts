// Our engine as a target: the process that carries traffic, with the resources that discovery sends to a gateway and its access
// log written as in production, but without the supervisor, which never sees a byte.
import { create } from '@bufbuild/protobuf'
import { keepHeapSlack } from '../src/lib/heap-slack.ts'
import { createUnhurriedLogger } from '../src/lib/log.ts'
import { accessLogFormatter } from '../src/proxy/access-log-format.ts'
import { Engine } from '../src/proxy/engine.ts'
import {
  filter,
  OWN_CERTIFICATE,
  seconds,
  socketAddress,
  tcpProxy,
  tlsContext,
  transportSocket,
  trustBundleSecret,
  uriSan,
} from '../src/resources/envoy.ts'
import { mtlsAuthenticated } from '../src/resources/newer-envoy.ts'
import {
  Cluster_DiscoveryType,
  Cluster_LbPolicy,
  ClusterSchema,
} from '../src/xds/gen/envoy/config/cluster/v3/cluster_pb.js'
import { ClusterLoadAssignmentSchema } from '../src/xds/gen/envoy/config/endpoint/v3/endpoint_pb.js'
import { ListenerSchema } from '../src/xds/gen/envoy/config/listener/v3/listener_pb.js'
import { RBAC_Action } from '../src/xds/gen/envoy/config/rbac/v3/rbac_pb.js'
import { RBACSchema } from '../src/xds/gen/envoy/extensions/filters/network/rbac/v3/rbac_pb.js'
import { SniClusterSchema } from '../src/xds/gen/envoy/extensions/filters/network/sni_cluster/v3/sni_cluster_pb.js'
import { TcpProxySchema } from '../src/xds/gen/envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy_pb.js'
import { SecretSchema } from '../src/xds/gen/envoy/extensions/transport_sockets/tls/v3/secret_pb.js'
import { DownstreamTlsContextSchema } from '../src/xds/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.js'
import { encodeResource } from '../src/xds/resource.ts'
import { TYPE, type XdsResource } from '../src/xds/types.ts'
import { type Job, readJob, sayListening } from './job.ts'

const LISTENER = 'eastwest'

function cluster({ serverName }: Job): XdsResource {
  return encodeResource(
    ClusterSchema,
    create(ClusterSchema, {
      name: serverName,
      clusterDiscoveryType: { case: 'type', value: Cluster_DiscoveryType.EDS },
      connectTimeout: seconds(5),
      lbPolicy: Cluster_LbPolicy.LEAST_REQUEST,
      edsClusterConfig: {
        serviceName: serverName,
        edsConfig: { configSourceSpecifier: { case: 'ads', value: {} } },
      },
      commonLbConfig: { healthyPanicThreshold: { value: 0 } },
      // As in peers/envoy.yaml: the default of 1,024 connections is less than are held here.
      circuitBreakers: {
        thresholds: [{ maxConnections: 100_000, maxPendingRequests: 100_000 }],
      },
    }),
    serverName,
  )
}

function assignment({ serverName, backendPort }: Job): XdsResource {
  const address = socketAddress('127.0.0.1', backendPort)
  return encodeResource(
    ClusterLoadAssignmentSchema,
    create(ClusterLoadAssignmentSchema, {
      clusterName: serverName,
      endpoints: [
        {
          loadBalancingWeight: 1,
          lbEndpoints: [{ hostIdentifier: { case: 'endpoint', value: { address } }, loadBalancingWeight: 1 }],
        },
      ],
    }),
    serverName,
  )
}

function listener({ trustDomain }: Job): XdsResource {
  const callers = mtlsAuthenticated(uriSan('prefix', `spiffe://${trustDomain}/`))
  const rbac = create(RBACSchema, {
    statPrefix: 'bench.',
    rules: {
      action: RBAC_Action.ALLOW,
      policies: {
        bench: { permissions: [{ rule: { case: 'any', value: true } }], principals: [callers] },
      },
    },
  })
  const tls = create(DownstreamTlsContextSchema, {
    requireClientCertificate: true,
    disableStatefulSessionResumption: true,
    sessionTicketKeysType: { case: 'disableStatelessSessionResumption', value: true },
    commonTlsContext: tlsContext(['h2', 'http/1.1', 'istio'], [], ''),
  })
  return encodeResource(
    ListenerSchema,
    create(ListenerSchema, {
      name: LISTENER,
      address: socketAddress('127.0.0.1', 0),
      filterChains: [
        {
          name: 'terminate',
          filterChainMatch: { transportProtocol: 'tls' },
          filters: [
            filter('envoy.filters.network.rbac', RBACSchema, rbac),
            filter('envoy.filters.network.sni_cluster', SniClusterSchema, create(SniClusterSchema)),
            filter('envoy.filters.network.tcp_proxy', TcpProxySchema, tcpProxy(LISTENER, 'BlackHole')),
          ],
          transportSocket: transportSocket('tls', DownstreamTlsContextSchema, tls),
          transportSocketConnectTimeout: seconds(5),
        },
      ],
    }),
    LISTENER,
  )
}

function credential({ certificatePem, privateKeyPem }: Job): XdsResource {
  const inline = (value: string) => ({ specifier: { case: 'inlineString' as const, value } })
  return encodeResource(
    SecretSchema,
    create(SecretSchema, {
      name: OWN_CERTIFICATE,
      type: {
        case: 'tlsCertificate',
        value: { certificateChain: inline(certificatePem), privateKey: inline(privateKeyPem) },
      },
    }),
    OWN_CERTIFICATE,
  )
}

function trust({ trustDomain, caPem }: Job): XdsResource {
  const secret = trustBundleSecret([{ trustDomain, pem: caPem }])
  return encodeResource(SecretSchema, secret, secret.name)
}

keepHeapSlack()
const job = readJob()
const { logger, sink } = createUnhurriedLogger({ name: 'bench' })
const format = accessLogFormatter('json', { name: 'bench', cluster: 'bench' })
const engine = new Engine({
  name: 'bench',
  logger,
  accessLog: (entry) => {
    if (format !== undefined) sink.writeSoon(format(entry, Date.now()))
  },
  // The backend is on loopback.
  allowLocalEndpoints: true,
})
const problems = [
  ...engine.update(TYPE.cluster, [cluster(job)], []),
  ...engine.update(TYPE.endpoints, [assignment(job)], []),
  ...engine.update(TYPE.listener, [listener(job)], []),
  ...engine.update(TYPE.secret, [credential(job), trust(job)], []),
  ...(await engine.whenBound()),
]
if (problems.length > 0) throw new Error(JSON.stringify(problems))
sayListening(Number(engine.status().listeners[0]?.address.split(':').at(-1)))
