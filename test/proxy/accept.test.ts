import {
  create,
  createRegistry,
  type DescMessage,
  fromJson,
  type JsonObject,
  type Message,
} from '@bufbuild/protobuf'
import { AnySchema } from '@bufbuild/protobuf/wkt'
import fc from 'fast-check'
import tap from 'tap'
import { createCa } from '../../src/identity/ca.ts'
import type { Problem, Result } from '../../src/lib/result.ts'
import { acceptEndpoints } from '../../src/resources/accept-endpoints.ts'
import { acceptListener } from '../../src/resources/accept-listener.ts'
import { references } from '../../src/resources/accept-references.ts'
import { acceptSecret } from '../../src/resources/accept-secret.ts'
import { acceptUpstream } from '../../src/resources/accept-upstream.ts'
import { issuedBy } from '../../src/resources/issuer-principal.ts'
import { connectAfter } from '../../src/resources/newer-envoy.ts'
import { ClusterSchema } from '../../src/xds/gen/envoy/config/cluster/v3/cluster_pb.js'
import { ClusterLoadAssignmentSchema } from '../../src/xds/gen/envoy/config/endpoint/v3/endpoint_pb.js'
import { ListenerSchema } from '../../src/xds/gen/envoy/config/listener/v3/listener_pb.js'
import { PrincipalSchema } from '../../src/xds/gen/envoy/config/rbac/v3/rbac_pb.js'
import { TlsInspectorSchema } from '../../src/xds/gen/envoy/extensions/filters/listener/tls_inspector/v3/tls_inspector_pb.js'
import { RBACSchema } from '../../src/xds/gen/envoy/extensions/filters/network/rbac/v3/rbac_pb.js'
import { SniClusterSchema } from '../../src/xds/gen/envoy/extensions/filters/network/sni_cluster/v3/sni_cluster_pb.js'
import { TcpProxySchema } from '../../src/xds/gen/envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy_pb.js'
import { RawBufferSchema } from '../../src/xds/gen/envoy/extensions/transport_sockets/raw_buffer/v3/raw_buffer_pb.js'
import { SecretSchema } from '../../src/xds/gen/envoy/extensions/transport_sockets/tls/v3/secret_pb.js'
import {
  DownstreamTlsContextSchema,
  UpstreamTlsContextSchema,
} from '../../src/xds/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.js'
import { SPIFFECertValidatorConfigSchema } from '../../src/xds/gen/envoy/extensions/transport_sockets/tls/v3/tls_spiffe_validator_config_pb.js'
import { encodeResource, rawResource } from '../../src/xds/resource.ts'
import { TYPE, type XdsResource } from '../../src/xds/types.ts'
import {
  allow,
  filterOf,
  gatewayListener,
  OUTBOUND,
  SNI,
  sidecarListener,
  tcpProxy,
  trustSecret,
  upstream,
  uriPrincipal,
} from './support.ts'

const registry = createRegistry(
  TlsInspectorSchema,
  RBACSchema,
  SniClusterSchema,
  TcpProxySchema,
  RawBufferSchema,
  DownstreamTlsContextSchema,
  UpstreamTlsContextSchema,
  SPIFFECertValidatorConfigSchema,
)
const any = (name: string, fields: JsonObject = {}): JsonObject => ({
  '@type': `type.googleapis.com/envoy.extensions.${name}`,
  ...fields,
})
const ads: JsonObject = { ads: {}, resourceApiVersion: 'V3', initialFetchTimeout: '5s' }

function encode<Desc extends DescMessage>(schema: Desc, json: JsonObject): XdsResource {
  return encodeResource(
    schema,
    fromJson(schema, json, { registry }) as never,
    String(json['name'] ?? json['clusterName']),
  )
}

/** A copy with one value changed, by path. */
function changed(json: JsonObject, path: string, value: unknown): JsonObject {
  const copy = structuredClone(json)
  const keys = path.split('.')
  let at: Record<string, unknown> = copy
  for (const key of keys.slice(0, -1)) at = at[key] as Record<string, unknown>
  const last = keys.at(-1) ?? ''
  if (value === undefined) delete at[last]
  else at[last] = value
  return copy
}

function refused(
  t: Pick<Tap, 'match'>,
  result: Result<unknown, Problem>,
  field: string | RegExp,
  message: RegExp,
): void {
  t.match(result, { ok: false, error: { field, message } }, `${field}: ${message}`)
}
type Tap = typeof tap

// The shapes that a real Envoy was run with, in Envoy's own JSON.
const LISTENER: JsonObject = {
  name: 'gw',
  address: { socketAddress: { address: '127.0.0.1', portValue: 15443 } },
  listenerFilters: [
    {
      name: 'envoy.filters.listener.tls_inspector',
      typedConfig: any('filters.listener.tls_inspector.v3.TlsInspector'),
    },
  ],
  listenerFiltersTimeout: '5s',
  filterChains: [
    {
      name: 'terminate',
      filters: [
        {
          name: 'envoy.filters.network.rbac',
          typedConfig: any('filters.network.rbac.v3.RBAC', {
            statPrefix: 'gw.',
            rules: {
              action: 'ALLOW',
              policies: {
                p: {
                  permissions: [{ requestedServerName: { exact: SNI } }],
                  principals: [
                    {
                      andIds: {
                        ids: [
                          { authenticated: { principalName: { prefix: 'spiffe://cluster-1.example/' } } },
                          { notId: { any: true } },
                        ],
                      },
                    },
                  ],
                },
              },
            },
          }),
        },
        {
          name: 'envoy.filters.network.sni_cluster',
          typedConfig: any('filters.network.sni_cluster.v3.SniCluster'),
        },
        {
          name: 'envoy.filters.network.tcp_proxy',
          typedConfig: any('filters.network.tcp_proxy.v3.TcpProxy', {
            statPrefix: 'gw',
            cluster: 'BlackHole',
            maxConnectAttempts: 3,
          }),
        },
      ],
      transportSocket: {
        name: 'envoy.transport_sockets.tls',
        typedConfig: any('transport_sockets.tls.v3.DownstreamTlsContext', {
          requireClientCertificate: true,
          disableStatelessSessionResumption: true,
          disableStatefulSessionResumption: true,
          commonTlsContext: {
            tlsParams: { tlsMinimumProtocolVersion: 'TLSv1_2', tlsMaximumProtocolVersion: 'TLSv1_3' },
            alpnProtocols: ['h2', 'http/1.1', 'istio'],
            tlsCertificateSdsSecretConfigs: [{ name: 'default', sdsConfig: ads }],
            combinedValidationContext: {
              defaultValidationContext: {
                matchTypedSubjectAltNames: [
                  { sanType: 'URI', matcher: { prefix: 'spiffe://cluster-1.example/' } },
                ],
              },
              validationContextSdsSecretConfig: { name: 'ROOTCA', sdsConfig: ads },
            },
          },
        }),
      },
      transportSocketConnectTimeout: '5s',
      filterChainMatch: { serverNames: ['Outbound_.9082_._.productpage'], transportProtocol: 'tls' },
    },
  ],
}
const CHAIN = 'filterChains.0'
const TLS = `${CHAIN}.transportSocket.typedConfig`

const CLUSTER: JsonObject = {
  name: OUTBOUND,
  type: 'EDS',
  connectTimeout: '2s',
  lbPolicy: 'LEAST_REQUEST',
  edsClusterConfig: { serviceName: OUTBOUND, edsConfig: ads },
  commonLbConfig: { healthyPanicThreshold: { value: 0 }, localityWeightedLbConfig: {} },
  outlierDetection: {
    consecutive5xx: 5,
    enforcingConsecutive5xx: 100,
    enforcingSuccessRate: 0,
    interval: '1s',
    baseEjectionTime: '3s',
    maxEjectionPercent: 100,
    splitExternalLocalOriginErrors: true,
    consecutiveLocalOriginFailure: 2,
    enforcingConsecutiveLocalOriginFailure: 100,
  },
  transportSocketMatches: [
    {
      name: 'tlsMode-istio',
      match: { tlsMode: 'istio' },
      transportSocket: {
        name: 'envoy.transport_sockets.tls',
        typedConfig: any('transport_sockets.tls.v3.UpstreamTlsContext', {
          sni: SNI,
          commonTlsContext: {
            alpnProtocols: ['istio'],
            tlsCertificateSdsSecretConfigs: [{ name: 'default', sdsConfig: ads }],
            combinedValidationContext: {
              defaultValidationContext: {
                matchTypedSubjectAltNames: [
                  { sanType: 'URI', matcher: { exact: 'spiffe://cluster.local/ns/istio-system/sa/gw' } },
                ],
              },
              validationContextSdsSecretConfig: { name: 'ROOTCA', sdsConfig: ads },
            },
          },
        }),
      },
    },
    {
      name: 'disabled',
      match: {},
      transportSocket: { name: 'raw', typedConfig: any('transport_sockets.raw_buffer.v3.RawBuffer') },
    },
  ],
}

const ASSIGNMENT: JsonObject = {
  clusterName: OUTBOUND,
  endpoints: [
    {
      locality: { region: 'r1', zone: 'z1' },
      priority: 1,
      loadBalancingWeight: 3,
      lbEndpoints: [
        {
          endpoint: { address: { socketAddress: { address: '127.0.0.1', portValue: 35443 } } },
          healthStatus: 'HEALTHY',
          loadBalancingWeight: 2,
          metadata: { filterMetadata: { 'envoy.transport_socket_match': { tlsMode: 'istio' } } },
        },
      ],
    },
  ],
  policy: { overprovisioningFactor: 160 },
}

tap.test('what a real Envoy was run with is accepted, and understood', async (t) => {
  t.match(acceptListener(encode(ListenerSchema, LISTENER)), {
    ok: true,
    value: {
      name: 'gw',
      address: { host: '127.0.0.1', port: 15443 },
      chains: [
        {
          name: 'terminate',
          mode: 'terminate',
          match: { serverNames: ['outbound_.9082_._.productpage'], transportProtocol: 'tls' },
          sniCluster: true,
          maxConnectAttempts: 3,
          idleTimeoutMs: 3_600_000,
          tls: {
            credentialSecret: 'default',
            trustSecret: 'ROOTCA',
            alpn: ['h2', 'http/1.1', 'istio'],
            handshakeTimeoutMs: 5_000,
          },
          rbac: [
            {
              rules: {
                action: 'ALLOW',
                policies: [
                  { name: 'p', permissions: [{ kind: 'serverName', match: { kind: 'exact', value: SNI } }] },
                ],
              },
            },
          ],
        },
      ],
    },
  })
  t.match(acceptUpstream(encode(ClusterSchema, CLUSTER)), {
    ok: true,
    value: {
      type: 'EDS',
      endpointsName: OUTBOUND,
      connectTimeoutMs: 2_000,
      balancing: { policy: 'LEAST_REQUEST', localityWeighted: true, panicThreshold: 0 },
      outlier: { consecutiveFailures: 2, baseEjectionMs: 3_000, maxEjectionPercent: 100 },
      socketMatches: [
        {
          match: { tlsMode: 'istio' },
          socket: { kind: 'tls', tls: { sni: SNI, trustDomains: ['cluster.local'] } },
        },
        { match: {}, socket: { kind: 'raw' } },
      ],
    },
  })
  t.match(acceptEndpoints(encode(ClusterLoadAssignmentSchema, ASSIGNMENT)), {
    ok: true,
    value: {
      overprovisioningFactor: 160,
      localities: [
        {
          priority: 1,
          weight: 3,
          zone: 'z1',
          endpoints: [{ weight: 2, healthStatus: 'HEALTHY', socketMetadata: { tlsMode: 'istio' } }],
        },
      ],
    },
  })
  t.match(acceptListener(sidecarListener()), {
    ok: true,
    value: { service: { host: 'productpage.bookinfo.svc.cluster.local', port: 9080, protocol: 'http' } },
  })
})

tap.test('outside the subset: the field by its path', async (t) => {
  const listener = (path: string, value: unknown) =>
    acceptListener(encode(ListenerSchema, changed(LISTENER, path, value)))
  const proxy = 'filter_chains[0].filters[2].typed_config'
  const tls = 'filter_chains[0].transport_socket.typed_config'
  refused(
    t,
    listener(`${CHAIN}.filters.2.typedConfig.accessLog`, [{ name: 'x' }]),
    `${proxy}.access_log`,
    /^not supported$/,
  )
  refused(
    t,
    listener(`${CHAIN}.filters.2.typedConfig.cluster`, undefined),
    `${proxy}.cluster`,
    /expected the name/,
  )
  refused(
    t,
    listener(`${CHAIN}.filters.2.typedConfig.idleTimeout`, '-1s'),
    `${proxy}.idle_timeout`,
    /not negative/,
  )
  refused(t, listener('useOriginalDst', true), 'use_original_dst', /not supported/)
  refused(
    t,
    listener('address.socketAddress.protocol', 'UDP'),
    'address.socket_address.protocol',
    /not supported/,
  )
  refused(t, listener('address', { pipe: { path: '/x' } }), 'address.pipe', /not supported/)
  refused(
    t,
    listener(`${CHAIN}.filterChainMatch.sourcePorts`, [1]),
    'filter_chains[0].filter_chain_match.source_ports',
    /not supported/,
  )
  refused(
    t,
    listener(`${CHAIN}.filterChainMatch.serverNames`, ['*.x']),
    'filter_chains[0].filter_chain_match.server_names[0]',
    /wildcards/,
  )
  refused(
    t,
    listener(`${TLS}.requireClientCertificate`, false),
    `${tls}.require_client_certificate`,
    /expected true/,
  )
  refused(
    t,
    listener(`${TLS}.commonTlsContext.tlsParams.tlsMinimumProtocolVersion`, 'TLSv1_1'),
    `${tls}.common_tls_context.tls_params.tls_minimum_protocol_version`,
    /TLSv1_2/,
  )
  refused(
    t,
    listener(`${TLS}.commonTlsContext.tlsCertificateSdsSecretConfigs`, []),
    `${tls}.common_tls_context.tls_certificate_sds_secret_configs`,
    /expected one/,
  )
  refused(
    t,
    listener(
      `${TLS}.commonTlsContext.combinedValidationContext.defaultValidationContext.allowExpiredCertificate`,
      true,
    ),
    `${tls}.common_tls_context.combined_validation_context.default_validation_context.allow_expired_certificate`,
    /not supported/,
  )
  refused(
    t,
    listener(`${CHAIN}.transportSocket`, undefined),
    'filter_chains[0].filter_chain_match.application_protocols',
    /only mesh TLS is passed through/,
  )
  refused(t, listener('filterChains', []), 'filter_chains', /at least one/)
  refused(
    t,
    listener('filterChains', [...(LISTENER['filterChains'] as []), ...(LISTENER['filterChains'] as [])]),
    'filter_chains[1].name',
    /a second chain/,
  )
  refused(
    t,
    listener(`${CHAIN}.filters.0.typedConfig.rules`, undefined),
    'filter_chains[0].filters[0].typed_config.rules',
    /everyone through/,
  )
  const principal = 'filter_chains[0].filters[0].typed_config.rules.policies["p"].principals[0]'
  refused(
    t,
    listener(`${CHAIN}.filters.0.typedConfig.rules.policies.p.principals`, [
      { authenticated: { principalName: { safeRegex: { regex: '.*' } } } },
    ]),
    `${principal}.authenticated.principal_name.safe_regex`,
    /not supported/,
  )
  refused(
    t,
    listener(`${CHAIN}.filters.0.typedConfig.rules.policies.p.principals`, [
      { urlPath: { path: { exact: '/' } } },
    ]),
    `${principal}.url_path`,
    /not supported/,
  )
  refused(
    t,
    listener(`${CHAIN}.filters.0.typedConfig.rules.policies.p.principals`, [{}]),
    principal,
    /expected an identifier/,
  )
  refused(
    t,
    listener(`${CHAIN}.filters.0.typedConfig.rules.policies.p.condition`, {}),
    'filter_chains[0].filters[0].typed_config.rules.policies["p"].condition',
    /not supported/,
  )

  const cluster = (path: string, value: unknown) =>
    acceptUpstream(encode(ClusterSchema, changed(CLUSTER, path, value)))
  refused(t, cluster('type', 'ORIGINAL_DST'), 'type', /expected EDS/)
  refused(t, cluster('connectTimeout', '-2s'), 'connect_timeout', /not negative/)
  const pins =
    'transportSocketMatches.0.transportSocket.typedConfig.commonTlsContext.combinedValidationContext.defaultValidationContext.matchTypedSubjectAltNames'
  refused(t, cluster(pins, []), /match_typed_subject_alt_names$/, /must be pinned/)
  refused(
    t,
    cluster(pins, [{ sanType: 'URI', matcher: { prefix: 'spiffe://' } }]),
    /matcher$/ as never,
    /expected exact/,
  )
  refused(
    t,
    cluster(pins, [{ sanType: 'URI', matcher: { exact: 'spiffe://a//b' } }]),
    /exact$/ as never,
    /expected a SPIFFE id/,
  )
})

tap.test('fields that are newer than the generated code', async (t) => {
  const withProxy = (change: (message: Message) => void) => {
    const proxy = create(TcpProxySchema, {
      statPrefix: 'x',
      clusterSpecifier: { case: 'cluster', value: 'c' },
    })
    change(proxy)
    return acceptListener(
      encodeResource(
        ListenerSchema,
        create(ListenerSchema, {
          name: 'l',
          address: {
            address: {
              case: 'socketAddress',
              value: { address: '::1', portSpecifier: { case: 'portValue', value: 1 } },
            },
          },
          filterChains: [{ filters: [filterOf(TcpProxySchema, proxy)] }],
        }),
        'l',
      ),
    )
  }
  t.ok(
    withProxy((proxy) => connectAfter(proxy as never, 'handshake')).ok,
    'the connect mode that keeps an Envoy safe',
  )
  refused(
    t,
    withProxy((proxy) => (proxy.$unknown = [{ no: 99, wireType: 0, data: Uint8Array.of(1) }])),
    'filter_chains[0].filters[0].typed_config.field number 99',
    /not supported/,
  )
  t.ok(
    acceptListener(gatewayListener({ rbac: allow({ p: [uriPrincipal('prefix', 'spiffe://x/')] }) })).ok,
    'mtls_authenticated',
  )
  const ambiguous = uriPrincipal('exact', 'spiffe://x/y')
  ambiguous.identifier = { case: 'any', value: true }
  refused(
    t,
    acceptListener(gatewayListener({ rbac: allow({ p: [ambiguous] }) })),
    /principals\[0\]\.field number 14/ as never,
    /not supported/,
  )
  const foreign = create(PrincipalSchema)
  foreign.$unknown = [{ no: 13, wireType: 2, data: Uint8Array.of(0) }]
  refused(
    t,
    acceptListener(gatewayListener({ rbac: allow({ p: [foreign] }) })),
    /field number 13/ as never,
    /not supported/,
  )
  const key = 'a1'.repeat(32)
  t.ok(acceptListener(gatewayListener({ rbac: allow({ p: [issuedBy([key])] }) })).ok, 'our own principal')
  for (const keys of [[], [key.toUpperCase()], [key, '']])
    refused(
      t,
      acceptListener(gatewayListener({ rbac: allow({ p: [issuedBy(keys)] }) })),
      /principals\[0\]\.custom\.typed_config/ as never,
      /public_key_sha256: expected/,
    )
  t.ok(acceptListener(sidecarListener({ ...{}, maxConnectAttempts: 2 })).ok)
  t.ok(tcpProxy())
})

tap.test('secrets', async (t) => {
  const ca = await createCa({ trustDomain: 'one.example' })
  t.match(acceptSecret(trustSecret([ca])), { ok: true, value: { kind: 'trust' } })
  refused(t, acceptSecret(trustSecret([])), /trust_domains$/, /at least one/)
  refused(t, acceptSecret(trustSecret([ca, ca])), /trust_domains\[1\]\.name/, /listed twice/)
  refused(
    t,
    acceptSecret(trustSecret([{ trustDomain: 'x.example', bundlePem: '' }])),
    /trust_domains\[0\]/ as never,
    /./,
  )
  const secret = (json: JsonObject) => acceptSecret(encode(SecretSchema, { name: 's', ...json }))
  refused(
    t,
    secret({ validationContext: { trustedCa: { inlineString: ca.bundlePem } } }),
    'validation_context.trusted_ca',
    /not supported/,
  )
  refused(
    t,
    secret({ tlsCertificate: { certificateChain: { filename: '/x' } } }),
    'tls_certificate.certificate_chain.filename',
    /not supported/,
  )
  refused(t, secret({ genericSecret: {} }), 'generic_secret', /not supported/)
  refused(t, secret({}), '', /expected tls_certificate/)
})

tap.test('references', async (t) => {
  t.same(references(TYPE.listener, gatewayListener()), { endpoints: [], secrets: ['ROOTCA', 'default'] })
  t.same(references(TYPE.listener, sidecarListener()), { endpoints: [], secrets: [] })
  t.same(references(TYPE.cluster, upstream(OUTBOUND, { pins: ['spiffe://a/b'] })), {
    endpoints: [OUTBOUND],
    secrets: ['ROOTCA', 'default'],
  })
  t.same(references(TYPE.cluster, rawResource('x', TYPE.cluster, Buffer.from([0xff]))), {
    endpoints: [],
    secrets: [],
  })
  t.same(references(TYPE.secret, trustSecret([])), { endpoints: [], secrets: [] })
})

tap.test('any bytes: a value or a problem, never a throw', async (t) => {
  const accepts = [acceptListener, acceptUpstream, acceptEndpoints, acceptSecret]
  const seeds = [
    gatewayListener(),
    encode(ClusterSchema, CLUSTER),
    encode(ClusterLoadAssignmentSchema, ASSIGNMENT),
    trustSecret([]),
  ]
  fc.assert(
    fc.property(
      fc.nat(3),
      fc.array(fc.tuple(fc.nat(2_000), fc.nat(255)), { maxLength: 6 }),
      (which, changes) => {
        const accept = accepts[which]
        const body = Buffer.from(seeds[which]?.body ?? [])
        for (const [at, value] of changes) if (body.length > 0) body[at % body.length] = value
        accept?.(rawResource('fuzzed', 'x', body))
      },
    ),
    { seed: 5, numRuns: 3_000 },
  )
  t.ok(AnySchema)
})
