// Clusters and their assignments: what each field means, and what is refused by its path.
import {
  create,
  createRegistry,
  fromJson,
  type JsonObject,
  type JsonValue,
  toBinary,
} from '@bufbuild/protobuf'
import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire'
import t from 'tap'
import { acceptEndpoints } from '../../src/resources/accept-endpoints.ts'
import { acceptListener } from '../../src/resources/accept-listener.ts'
import { acceptUpstream } from '../../src/resources/accept-upstream.ts'
import { addFormattedTlvs } from '../../src/resources/newer-envoy.ts'
import { ClusterSchema } from '../../src/xds/gen/envoy/config/cluster/v3/cluster_pb.js'
import { TransportSocketSchema } from '../../src/xds/gen/envoy/config/core/v3/base_pb.js'
import {
  ProxyProtocolConfig_Version,
  ProxyProtocolConfigSchema,
} from '../../src/xds/gen/envoy/config/core/v3/proxy_protocol_pb.js'
import { SubstitutionFormatStringSchema } from '../../src/xds/gen/envoy/config/core/v3/substitution_format_string_pb.js'
import { ClusterLoadAssignmentSchema } from '../../src/xds/gen/envoy/config/endpoint/v3/endpoint_pb.js'
import { ListenerSchema } from '../../src/xds/gen/envoy/config/listener/v3/listener_pb.js'
import {
  type TcpProxy,
  TcpProxySchema,
} from '../../src/xds/gen/envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy_pb.js'
import { LeastRequestSchema } from '../../src/xds/gen/envoy/extensions/load_balancing_policies/least_request/v3/least_request_pb.js'
import { MaglevSchema } from '../../src/xds/gen/envoy/extensions/load_balancing_policies/maglev/v3/maglev_pb.js'
import { RandomSchema } from '../../src/xds/gen/envoy/extensions/load_balancing_policies/random/v3/random_pb.js'
import { RingHashSchema } from '../../src/xds/gen/envoy/extensions/load_balancing_policies/ring_hash/v3/ring_hash_pb.js'
import { RoundRobinSchema } from '../../src/xds/gen/envoy/extensions/load_balancing_policies/round_robin/v3/round_robin_pb.js'
import { ProxyProtocolUpstreamTransportSchema } from '../../src/xds/gen/envoy/extensions/transport_sockets/proxy_protocol/v3/upstream_proxy_protocol_pb.js'
import { RawBufferSchema } from '../../src/xds/gen/envoy/extensions/transport_sockets/raw_buffer/v3/raw_buffer_pb.js'
import { encodeResource } from '../../src/xds/resource.ts'
import { filterOf, socketAddress, typed } from './support.ts'

const registry = createRegistry(
  LeastRequestSchema,
  MaglevSchema,
  RandomSchema,
  RingHashSchema,
  RoundRobinSchema,
  ProxyProtocolUpstreamTransportSchema,
  RawBufferSchema,
)
const any = (name: string, fields: JsonObject = {}): JsonObject => ({
  '@type': `type.googleapis.com/envoy.extensions.${name}`,
  ...fields,
})
const endpoint = (port = 80): JsonObject => ({
  endpoint: { address: { socketAddress: { address: '10.0.0.1', portValue: port } } },
})
const cluster = (fields: JsonObject) =>
  acceptUpstream(
    encodeResource(
      ClusterSchema,
      fromJson(
        ClusterSchema,
        {
          name: 'c',
          loadAssignment: { clusterName: 'c', endpoints: [{ lbEndpoints: [endpoint()] }] },
          ...fields,
        },
        { registry },
      ),
      'c',
    ),
  )
const assignment = (fields: JsonObject) =>
  acceptEndpoints(
    encodeResource(
      ClusterLoadAssignmentSchema,
      fromJson(ClusterLoadAssignmentSchema, { clusterName: 'c', ...fields }),
      'c',
    ),
  )
const policy = (typedConfig: JsonObject): JsonObject => ({
  loadBalancingPolicy: { policies: [{ typedExtensionConfig: { name: 'p', typedConfig } }] },
})
const CHECK: JsonObject = { timeout: '1s', interval: '5s', unhealthyThreshold: 2, healthyThreshold: 3 }
const check = (fields: JsonObject) => ({ healthChecks: [{ ...CHECK, ...fields }] })

t.test('unset fields have Envoy’s defaults', async (t) => {
  const result = cluster({ outlierDetection: {}, healthChecks: [{ ...CHECK, tcpHealthCheck: {} }] })
  t.match(result, {
    ok: true,
    value: {
      type: 'STATIC',
      connectTimeoutMs: 5_000,
      balancing: {
        policy: 'ROUND_ROBIN',
        choiceCount: 2,
        activeRequestBias: 1,
        localityWeighted: false,
        panicThreshold: 50,
        failTrafficOnPanic: false,
      },
      circuitBreakers: {
        maxConnections: 1_024,
        maxPending: 1_024,
        maxRetries: Number.POSITIVE_INFINITY,
        maxConnectionsPerEndpoint: Number.POSITIVE_INFINITY,
      },
      outlier: {
        consecutiveFailures: 5,
        enforcingConsecutive: 100,
        consecutiveGatewayFailures: 5,
        enforcingGatewayFailures: 0,
        intervalMs: 10_000,
        baseEjectionMs: 30_000,
        maxEjectionMs: 300_000,
        maxEjectionPercent: 10,
        alwaysEjectOne: false,
        healthCheckUnejects: true,
        successRate: { enforcing: 100, minimumHosts: 5, volume: 100, stdevFactor: 1_900 },
        failurePercentage: { enforcing: 0, threshold: 85, minimumHosts: 5, volume: 50 },
      },
      healthCheck: {
        timeoutMs: 1_000,
        intervalMs: 5_000,
        unhealthyIntervalMs: 5_000,
        noTrafficIntervalMs: 60_000,
        reuseConnection: true,
        unhealthyThreshold: 2,
        healthyThreshold: 3,
      },
      dns: { refreshMs: 5_000, failureBaseMs: 5_000, respectTtl: false, family: 'AUTO' },
      keepalive: undefined,
    },
  })
  t.match(assignment({ endpoints: [{ lbEndpoints: [endpoint()] }] }), {
    ok: true,
    value: {
      overprovisioningFactor: 140,
      staleAfterMs: undefined,
      localities: [{ weight: 0, endpoints: [{ weight: 1, healthStatus: 'UNKNOWN' }] }],
    },
  })
})

t.test('each policy in both its forms', async (t) => {
  for (const [fields, balancing] of [
    [{ lbPolicy: 'RANDOM' }, { policy: 'RANDOM' }],
    [
      { lbPolicy: 'LEAST_REQUEST', leastRequestLbConfig: { choiceCount: 3 } },
      { policy: 'LEAST_REQUEST', choiceCount: 3 },
    ],
    [
      { lbPolicy: 'RING_HASH', ringHashLbConfig: { minimumRingSize: 64, hashFunction: 'MURMUR_HASH_2' } },
      { policy: 'RING_HASH', minimumRingSize: 64, hashFunction: 'MURMUR_HASH_2' },
    ],
    [
      { lbPolicy: 'MAGLEV', maglevLbConfig: { tableSize: 101 } },
      { policy: 'MAGLEV', tableSize: 101 },
    ],
    [policy(any('load_balancing_policies.random.v3.Random')), { policy: 'RANDOM' }],
    [
      policy(
        any('load_balancing_policies.least_request.v3.LeastRequest', {
          choiceCount: 4,
          activeRequestBias: { defaultValue: 0.5, runtimeKey: 'bias' },
          localityLbConfig: { localityWeightedLbConfig: {} },
        }),
      ),
      { policy: 'LEAST_REQUEST', choiceCount: 4, activeRequestBias: 0.5, localityWeighted: true },
    ],
    [
      policy(
        any('load_balancing_policies.round_robin.v3.RoundRobin', {
          localityLbConfig: { zoneAwareLbConfig: { failTrafficOnPanic: true } },
        }),
      ),
      { policy: 'ROUND_ROBIN', failTrafficOnPanic: true },
    ],
    [
      policy(
        any('load_balancing_policies.ring_hash.v3.RingHash', {
          hashFunction: 'XX_HASH',
          maximumRingSize: 2_048,
          consistentHashingLbConfig: { useHostnameForHashing: true },
        }),
      ),
      { policy: 'RING_HASH', hashFunction: 'XX_HASH', maximumRingSize: 2_048, useHostnameForHashing: true },
    ],
    [policy(any('load_balancing_policies.maglev.v3.Maglev')), { policy: 'MAGLEV', tableSize: 65_537 }],
    [
      {
        commonLbConfig: {
          healthyPanicThreshold: { value: 33.9 },
          zoneAwareLbConfig: { routingEnabled: { value: 0 }, failTrafficOnPanic: true },
        },
      },
      { panicThreshold: 33, failTrafficOnPanic: true },
    ],
  ] as [JsonObject, JsonObject][])
    t.match(cluster(fields), { ok: true, value: { balancing } }, JSON.stringify(balancing))
})

t.test('what cannot be served is refused by its path', async (t) => {
  const field = (name: string): JsonObject => ({ [name]: {} })
  const http = (fields: JsonObject) => check({ httpHealthCheck: { path: '/', ...fields } })
  for (const [fields, path, message] of [
    [{ lbPolicy: 'CLUSTER_PROVIDED' }, 'lb_policy', /found CLUSTER_PROVIDED/],
    [field('lbSubsetConfig'), 'lb_subset_config', /not supported/],
    [
      { roundRobinLbConfig: { slowStartConfig: {} } },
      'round_robin_lb_config.slow_start_config',
      /not supported/,
    ],
    [
      { leastRequestLbConfig: { slowStartConfig: {} } },
      'least_request_lb_config.slow_start_config',
      /not supported/,
    ],
    [
      { lbPolicy: 'LEAST_REQUEST', leastRequestLbConfig: { choiceCount: 1 } },
      'least_request_lb_config.choice_count',
      /at least 2/,
    ],
    [
      { lbPolicy: 'RING_HASH', ringHashLbConfig: { minimumRingSize: 100_000 } },
      'ring_hash_lb_config.minimum_ring_size',
      /at most 65536/,
    ],
    [
      { lbPolicy: 'RING_HASH', ringHashLbConfig: { maximumRingSize: 10 } },
      'ring_hash_lb_config.maximum_ring_size',
      /at least minimum/,
    ],
    [{ lbPolicy: 'MAGLEV', maglevLbConfig: { tableSize: 100 } }, 'maglev_lb_config.table_size', /a prime/],
    [
      { lbPolicy: 'MAGLEV', maglevLbConfig: { tableSize: '18446744073709551557' } },
      'maglev_lb_config.table_size',
      /a prime/,
    ],
    [
      { commonLbConfig: { zoneAwareLbConfig: { routingEnabled: { value: 100 } } } },
      'common_lb_config.zone_aware_lb_config.routing_enabled',
      /expected 0/,
    ],
    [
      { commonLbConfig: { zoneAwareLbConfig: { minClusterSize: 3 } } },
      'common_lb_config.zone_aware_lb_config.min_cluster_size',
      /not supported/,
    ],
    [
      { commonLbConfig: { healthyPanicThreshold: { value: 101 } } },
      'common_lb_config.healthy_panic_threshold',
      /0 to 100/,
    ],
    [{ loadBalancingPolicy: {} }, 'load_balancing_policy.policies', /expected one of/],
    [{ outlierDetection: { baseEjectionTime: '0s' } }, 'outlier_detection.base_ejection_time', /more than 0/],
    [{ outlierDetection: { maxEjectionTime: '1s' } }, 'outlier_detection.max_ejection_time', /at least base/],
    [
      { outlierDetection: { enforcingSuccessRate: 101 } },
      'outlier_detection.enforcing_success_rate',
      /0 to 100/,
    ],
    [{ outlierDetection: { monitors: [{ name: 'x' }] } }, 'outlier_detection.monitors', /not supported/],
    [
      { circuitBreakers: { thresholds: [{ priority: 'HIGH' }] } },
      'circuit_breakers.thresholds[0].priority',
      /found HIGH/,
    ],
    [
      { circuitBreakers: { thresholds: [{ retryBudget: {} }] } },
      'circuit_breakers.thresholds[0].retry_budget',
      /not supported/,
    ],
    [
      { circuitBreakers: { perHostThresholds: [{ maxRetries: 1 }] } },
      'circuit_breakers.per_host_thresholds[0].max_retries',
      /not supported/,
    ],
    [{ healthChecks: [CHECK] }, 'health_checks[0].health_checker', /expected a tcp_health_check/],
    [
      {
        healthChecks: [
          { ...CHECK, tcpHealthCheck: {} },
          { ...CHECK, tcpHealthCheck: {} },
        ],
      },
      'health_checks',
      /at most one/,
    ],
    [check({ grpcHealthCheck: {} }), 'health_checks[0].grpc_health_check', /not supported/],
    [check({ tcpHealthCheck: {}, interval: '0s' }), 'health_checks[0].interval', /more than 0/],
    [
      check({ tcpHealthCheck: { send: { text: 'xyz' } } }),
      'health_checks[0].tcp_health_check.send.text',
      /hexadecimal/,
    ],
    [
      { healthChecks: [{ timeout: '1s', interval: '1s', healthyThreshold: 1, tcpHealthCheck: {} }] },
      'health_checks[0].unhealthy_threshold',
      /at least 1/,
    ],
    [http({ path: 'x' }), 'health_checks[0].http_health_check.path', /begins with/],
    [http({ path: '/a\r\nx: y' }), 'health_checks[0].http_health_check.path', /begins with/],
    [http({ host: 'a\nb' }), 'health_checks[0].http_health_check.host', /control/],
    [
      http({ codecClientType: 'HTTP2' }),
      'health_checks[0].http_health_check.codec_client_type',
      /expected HTTP1/,
    ],
    [http({ method: 'CONNECT' }), 'health_checks[0].http_health_check.method', /other than CONNECT/],
    [
      http({ expectedStatuses: [{ start: 300, end: 200 }] }),
      'health_checks[0].http_health_check.expected_statuses[0]',
      /start < end/,
    ],
    [
      http({ requestHeadersToAdd: [{ header: { key: 'a b' } }] }),
      'health_checks[0].http_health_check.request_headers_to_add[0].header.key',
      /header's name/,
    ],
    [
      http({ requestHeadersToAdd: [{ header: { key: 'a', value: '%X%' } }] }),
      'health_checks[0].http_health_check.request_headers_to_add[0].header.value',
      /literal/,
    ],
    [
      { upstreamConnectionOptions: { tcpKeepalive: { keepaliveProbes: 3 } } },
      'upstream_connection_options.tcp_keepalive.keepalive_probes',
      /not supported/,
    ],
    [
      {
        type: 'LOGICAL_DNS',
        loadAssignment: { clusterName: 'c', endpoints: [{ lbEndpoints: [endpoint(), endpoint(81)] }] },
      },
      'load_assignment.endpoints',
      /one endpoint/,
    ],
    [
      { dnsFailureRefreshRate: { baseInterval: '2s', maxInterval: '1s' } },
      'dns_failure_refresh_rate.max_interval',
      /at least base/,
    ],
    [
      {
        transportSocket: {
          name: 'p',
          typedConfig: any('transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport'),
        },
      },
      'transport_socket.typed_config.transport_socket',
      /expected one/,
    ],
  ] as [JsonObject, string, RegExp][]) {
    t.match(cluster(fields), { ok: false, error: { field: path, message } }, path)
  }
  const lb = (fields: JsonObject) => ({ endpoints: [{ lbEndpoints: [{ ...endpoint(), ...fields }] }] })
  for (const [fields, path, message] of [
    [{ endpoints: [{ priority: 129 }] }, 'endpoints[0].priority', /at most 128/],
    [{ endpoints: [{ loadBalancingWeight: 0 }] }, 'endpoints[0].load_balancing_weight', /at least 1/],
    [lb({ loadBalancingWeight: 0 }), 'endpoints[0].lb_endpoints[0].load_balancing_weight', /at least 1/],
    [{ policy: { overprovisioningFactor: 0 } }, 'policy.overprovisioning_factor', /more than 0/],
    [{ namedEndpoints: { a: {} } }, 'named_endpoints', /not supported/],
  ] as [JsonObject, string, RegExp][])
    t.match(assignment(fields), { ok: false, error: { field: path, message } }, path)
})

t.test('PROXY protocol: the transport socket and the TLVs of tcp_proxy', async (t) => {
  const inner = { name: 'raw', typedConfig: any('transport_sockets.raw_buffer.v3.RawBuffer') }
  const socket = (config: JsonValue) =>
    cluster({
      transportSocket: {
        name: 'p',
        typedConfig: any('transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport', {
          config,
          transportSocket: inner,
        }),
      },
    })
  t.match(socket({ version: 'V2', passThroughTlvs: { matchType: 'INCLUDE', tlvType: [2] } }), {
    ok: true,
    value: { defaultSocket: { kind: 'raw', proxyProtocol: { version: 'V2', passTlvs: [2], addedTlvs: [] } } },
  })
  t.match(socket({ version: 'V1' }), {
    value: { defaultSocket: { proxyProtocol: { version: 'V1', passTlvs: 'none' } } },
  })
  const added = (version: 'V1' | 'V2', ...entries: readonly Uint8Array[]) => {
    const config = create(ProxyProtocolConfigSchema, { version: ProxyProtocolConfig_Version[version] })
    config.$unknown = entries.map((entry) => ({
      no: 3,
      wireType: WireType.LengthDelimited,
      data: new BinaryWriter().bytes(entry).finish(),
    }))
    const transport = create(ProxyProtocolUpstreamTransportSchema, {
      config,
      transportSocket: { name: 'raw', configType: typed(RawBufferSchema, create(RawBufferSchema)) },
    })
    const message = fromJson(ClusterSchema, {
      name: 'c',
      loadAssignment: { clusterName: 'c', endpoints: [{ lbEndpoints: [endpoint()] }] },
    })
    message.transportSocket = create(TransportSocketSchema, {
      name: 'p',
      configType: typed(ProxyProtocolUpstreamTransportSchema, transport),
    })
    return acceptUpstream(encodeResource(ClusterSchema, message, 'c'))
  }
  const literal = new BinaryWriter()
    .tag(1, WireType.Varint)
    .uint32(0xe5)
    .tag(2, WireType.LengthDelimited)
    .bytes(Buffer.from('x'))
    .finish()
  t.match(added('V2', literal), {
    ok: true,
    value: { defaultSocket: { proxyProtocol: { addedTlvs: [{ type: 0xe5, value: Buffer.from('x') }] } } },
  })
  const tlvsAt = 'transport_socket.typed_config.config.added_tlvs'
  const formatted = new BinaryWriter()
    .tag(1, WireType.Varint)
    .uint32(2)
    .tag(3, WireType.LengthDelimited)
    .bytes(
      toBinary(
        SubstitutionFormatStringSchema,
        create(SubstitutionFormatStringSchema, {
          format: { case: 'textFormat', value: '%REQUESTED_SERVER_NAME%' },
        }),
      ),
    )
    .finish()
  for (const [result, field, message] of [
    [added('V1', literal), tlvsAt, /version 1 has no TLVs/],
    [added('V2', new Uint8Array()), `${tlvsAt}[0]`, /either a value or a format_string/],
    [added('V2', formatted), `${tlvsAt}[0].format_string`, /expected a value/],
    [added('V2', Buffer.from('ff', 'hex')), tlvsAt, /does not decode/],
  ] as const)
    t.match(result, { ok: false, error: { field, message } }, `${message}`)
  const listener = (change: (proxy: TcpProxy) => void) => {
    const proxy = create(TcpProxySchema, {
      statPrefix: 'p',
      clusterSpecifier: { case: 'cluster', value: 'c' },
      hashPolicy: [{ policySpecifier: { case: 'sourceIp', value: {} } }],
    })
    change(proxy)
    const message = create(ListenerSchema, {
      name: 'l',
      address: socketAddress('127.0.0.1', 1),
      filterChains: [{ filters: [filterOf(TcpProxySchema, proxy)] }],
    })
    return acceptListener(encodeResource(ListenerSchema, message, 'l'))
  }
  const tlvs = [[2, '%REQUESTED_SERVER_NAME%'] as const, [0xe0, 'id=%DOWNSTREAM_PEER_URI_SAN%'] as const]
  t.match(
    listener((proxy) => addFormattedTlvs(proxy, tlvs)),
    {
      ok: true,
      value: {
        chains: [
          {
            hashSourceIp: true,
            proxyProtocolTlvs: [
              { type: 2, format: '%REQUESTED_SERVER_NAME%' },
              { type: 0xe0, format: 'id=%DOWNSTREAM_PEER_URI_SAN%' },
            ],
          },
        ],
      },
    },
  )
  const at = 'filter_chains[0].filters[0].typed_config.proxy_protocol_tlvs[0]'
  for (const [tlv, field, message] of [
    [[256, 'x'], `${at}.type`, /at most 255/],
    [[2, '%RESPONSE_CODE%'], `${at}.format_string`, /%RESPONSE_CODE% is not supported/],
    [[2, '100%'], `${at}.format_string`, /not supported/],
    [[2, ''], `${at}.format_string`, /expected a text_format_source/],
  ] as [[number, string], string, RegExp][])
    t.match(
      listener((proxy) => addFormattedTlvs(proxy, [tlv])),
      { ok: false, error: { field, message } },
      field,
    )
})
