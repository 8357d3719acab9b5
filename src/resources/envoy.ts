// The parts that gateways' and sidecars' resources share, in the shapes that a real Envoy was seen to run.
import { create, type DescMessage, type MessageShape, toBinary } from '@bufbuild/protobuf'
import { type Any, AnySchema, type Duration, DurationSchema } from '@bufbuild/protobuf/wkt'
import type { TrustBundle } from '../identity/trust-bundle.ts'
import { CircuitBreakersSchema } from '../xds/gen/envoy/config/cluster/v3/circuit_breaker_pb.js'
import { UpstreamConnectionOptionsSchema } from '../xds/gen/envoy/config/cluster/v3/cluster_pb.js'
import { type Address, AddressSchema } from '../xds/gen/envoy/config/core/v3/address_pb.js'
import type { Locality } from '../xds/gen/envoy/config/core/v3/base_pb.js'
import {
  DataSourceSchema,
  LocalitySchema,
  TransportSocketSchema,
} from '../xds/gen/envoy/config/core/v3/base_pb.js'
import {
  AggregatedConfigSourceSchema,
  ApiConfigSource_ApiType,
  ApiConfigSourceSchema,
  ApiVersion,
  type ConfigSource,
  ConfigSourceSchema,
  PathConfigSourceSchema,
} from '../xds/gen/envoy/config/core/v3/config_source_pb.js'
import { TypedExtensionConfigSchema } from '../xds/gen/envoy/config/core/v3/extension_pb.js'
import { type Filter, FilterSchema } from '../xds/gen/envoy/config/listener/v3/listener_components_pb.js'
import {
  type TcpProxy,
  TcpProxySchema,
} from '../xds/gen/envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy_pb.js'
import {
  CertificateValidationContextSchema,
  type SubjectAltNameMatcher,
  SubjectAltNameMatcher_SanType,
  SubjectAltNameMatcherSchema,
  TlsParameters_TlsProtocol,
} from '../xds/gen/envoy/extensions/transport_sockets/tls/v3/common_pb.js'
import { type Secret, SecretSchema } from '../xds/gen/envoy/extensions/transport_sockets/tls/v3/secret_pb.js'
import {
  type CommonTlsContext,
  CommonTlsContextSchema,
} from '../xds/gen/envoy/extensions/transport_sockets/tls/v3/tls_pb.js'
import { SPIFFECertValidatorConfigSchema } from '../xds/gen/envoy/extensions/transport_sockets/tls/v3/tls_spiffe_validator_config_pb.js'

/** Name of the Secret with the proxy's own certificate; never from discovery, whatever that says: the supervisor fills it from files. */
export const OWN_CERTIFICATE = 'default'
/** Name of the Secret with the trust bundles, one per trust domain. */
export const TRUST_BUNDLES = 'ROOTCA'

/** PEM of one trust domain: its roots and issuing intermediates. */
export interface DomainBundle {
  readonly trustDomain: string
  readonly pem: string
  /** CRLs of its CAs in PEM; '' or absent: none. */
  readonly crl?: string
}

/** A bundle as it travels. */
export function domainBundle({ trustDomain, pem, crls }: TrustBundle): DomainBundle {
  const crl = crls.map((bound) => bound.crl.pem).join('')
  return { trustDomain, pem, ...(crl !== '' && { crl }) }
}

export function pack<D extends DescMessage>(schema: D, message: MessageShape<D>): Any {
  return create(AnySchema, {
    typeUrl: `type.googleapis.com/${schema.typeName}`,
    value: toBinary(schema, message),
  })
}

export const seconds = (n: number): Duration => create(DurationSchema, { seconds: BigInt(n) })

/** ADS of the same stream. Finite `initial_fetch_timeout`: with 0 s an Envoy that misses one EDS answer warms for ever. */
export function adsSource(initialFetchTimeoutSeconds?: number): ConfigSource {
  return create(ConfigSourceSchema, {
    configSourceSpecifier: { case: 'ads', value: create(AggregatedConfigSourceSchema) },
    resourceApiVersion: ApiVersion.V3,
    ...(initialFetchTimeoutSeconds === undefined
      ? {}
      : { initialFetchTimeout: seconds(initialFetchTimeoutSeconds) }),
  })
}

/**
 * No limits of its own for an upstream: Envoy's default of 1,024 connections would cut a gateway off long before its machine is
 * full, and how many a worker carries in all is bounded elsewhere.
 */
export const NO_CIRCUIT_BREAKERS = create(CircuitBreakersSchema, {
  thresholds: [
    {
      maxConnections: 0xffff_ffff,
      maxPendingRequests: 0xffff_ffff,
      maxRequests: 0xffff_ffff,
      maxRetries: 0xffff_ffff,
      trackRemaining: true,
    },
  ],
})

/** A server that vanished without a word shows by unanswered probes, the first after 5 minutes of silence. */
export const KEEPALIVE = create(UpstreamConnectionOptionsSchema, { tcpKeepalive: { keepaliveTime: 300 } })

export function socketAddress(address: string, port: number): Address {
  return create(AddressSchema, {
    address: { case: 'socketAddress', value: { address, portSpecifier: { case: 'portValue', value: port } } },
  })
}

export function locality(region: string, zone: string): Locality {
  return create(LocalitySchema, { region, zone })
}

export function filter<D extends DescMessage>(name: string, schema: D, message: MessageShape<D>): Filter {
  return create(FilterSchema, { name, configType: { case: 'typedConfig', value: pack(schema, message) } })
}

/** `maxConnectAttempts`: how many endpoints a connection is tried with. */
export function tcpProxy(statPrefix: string, upstream: string, maxConnectAttempts = 3): TcpProxy {
  return create(TcpProxySchema, {
    statPrefix,
    clusterSpecifier: { case: 'cluster', value: upstream },
    maxConnectAttempts,
  })
}

export function uriSan(kind: 'exact' | 'prefix', value: string): SubjectAltNameMatcher {
  return create(SubjectAltNameMatcherSchema, {
    sanType: SubjectAltNameMatcher_SanType.URI,
    matcher: { matchPattern: { case: kind, value } },
  })
}

/** Begins a `credentialFile` that is none: the name of the proxy's own cluster of an SDS server, an agent's on its machine. */
export const SDS_CLUSTER = 'cluster:'

/** Secrets that the proxy gets itself: from a file that it watches, or from an SDS server that its bootstrap knows as a cluster. */
function ownSource(credentialFile: string): ConfigSource {
  if (!credentialFile.startsWith(SDS_CLUSTER)) {
    const value = create(PathConfigSourceSchema, { path: credentialFile })
    return create(ConfigSourceSchema, {
      configSourceSpecifier: { case: 'pathConfigSource', value },
      resourceApiVersion: ApiVersion.V3,
    })
  }
  const clusterName = credentialFile.slice(SDS_CLUSTER.length)
  const value = create(ApiConfigSourceSchema, {
    apiType: ApiConfigSource_ApiType.GRPC,
    transportApiVersion: ApiVersion.V3,
    grpcServices: [{ targetSpecifier: { case: 'envoyGrpc', value: { clusterName } } }],
    setNodeOnFirstMessageOnly: true,
  })
  return create(ConfigSourceSchema, {
    configSourceSpecifier: { case: 'apiConfigSource', value },
    resourceApiVersion: ApiVersion.V3,
  })
}

/**
 * TLS 1.2–1.3, own certificate and trust bundles over SDS; `sans` narrows who may be on the other side. `credentialFile` is where
 * an Envoy has its own certificate (the path of an SDS file, or `SDS_CLUSTER` and a name); empty for who gets it over ADS: our proxies,
 * whose supervisor adds it, and Envoys of a discovery server that mints.
 */
export function tlsContext(
  alpnProtocols: readonly string[],
  sans: readonly SubjectAltNameMatcher[],
  credentialFile: string,
  trust: string = TRUST_BUNDLES,
): CommonTlsContext {
  return create(CommonTlsContextSchema, {
    tlsParams: {
      tlsMinimumProtocolVersion: TlsParameters_TlsProtocol.TLSv1_2,
      tlsMaximumProtocolVersion: TlsParameters_TlsProtocol.TLSv1_3,
    },
    alpnProtocols: [...alpnProtocols],
    tlsCertificateSdsSecretConfigs: [
      { name: OWN_CERTIFICATE, sdsConfig: credentialFile === '' ? adsSource() : ownSource(credentialFile) },
    ],
    validationContextType: {
      case: 'combinedValidationContext',
      value: {
        defaultValidationContext: create(CertificateValidationContextSchema, {
          matchTypedSubjectAltNames: [...sans],
        }),
        validationContextSdsSecretConfig: { name: trust, sdsConfig: adsSource() },
      },
    },
  })
}

export function transportSocket<D extends DescMessage>(name: string, schema: D, message: MessageShape<D>) {
  return create(TransportSocketSchema, {
    name,
    configType: { case: 'typedConfig', value: pack(schema, message) },
  })
}

/**
 * `ROOTCA`: each trust domain with its own bundle, never pooled (`envoy.tls.cert_validator.spiffe`). Our engine honours the CRLs in
 * it, an Envoy's SPIFFE validator does not look at them.
 */
export function trustBundleSecret(bundles: readonly DomainBundle[], name: string = TRUST_BUNDLES): Secret {
  const crl = [...new Set(bundles.map((bundle) => bundle.crl ?? ''))].join('')
  const validator = create(SPIFFECertValidatorConfigSchema, {
    trustDomains: bundles.map(({ trustDomain, pem }) => ({
      name: trustDomain,
      trustBundle: create(DataSourceSchema, { specifier: { case: 'inlineString', value: pem } }),
    })),
  })
  return create(SecretSchema, {
    name,
    type: {
      case: 'validationContext',
      value: {
        ...(crl !== '' && { crl: { specifier: { case: 'inlineString', value: crl } } }),
        customValidatorConfig: create(TypedExtensionConfigSchema, {
          name: 'envoy.tls.cert_validator.spiffe',
          typedConfig: pack(SPIFFECertValidatorConfigSchema, validator),
        }),
      },
    },
  })
}
