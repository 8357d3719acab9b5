import {
  type Cluster,
  type Cluster_CommonLbConfig,
  Cluster_LbPolicy as LbPolicy,
  Cluster_RingHashLbConfig_HashFunction as RingHashFunction,
} from '../xds/gen/envoy/config/cluster/v3/cluster_pb.js'
import { LeastRequestSchema } from '../xds/gen/envoy/extensions/load_balancing_policies/least_request/v3/least_request_pb.js'
import { MaglevSchema } from '../xds/gen/envoy/extensions/load_balancing_policies/maglev/v3/maglev_pb.js'
import { RandomSchema } from '../xds/gen/envoy/extensions/load_balancing_policies/random/v3/random_pb.js'
import {
  RingHash_HashFunction,
  RingHashSchema,
} from '../xds/gen/envoy/extensions/load_balancing_policies/ring_hash/v3/ring_hash_pb.js'
import { RoundRobinSchema } from '../xds/gen/envoy/extensions/load_balancing_policies/round_robin/v3/round_robin_pb.js'
import { type AcceptContext, typeOf } from './accept-context.ts'
import type { BalancingConfig } from './upstream-types.ts'

// No local cluster is ever named, so Envoy would not route by zone either; only what says so, or what counts in panic, is taken.
const ZONE_AWARE = { routing_enabled: true, fail_traffic_on_panic: true } as const
const HASHING = { use_hostname_for_hashing: true } as const
const BIAS = { default_value: true, runtime_key: true } as const

/** The fields of a Cluster that say how its endpoints are chosen. */
export const BALANCING_FIELDS = {
  lb_policy: true,
  least_request_lb_config: { choice_count: true, active_request_bias: BIAS },
  round_robin_lb_config: {},
  ring_hash_lb_config: { minimum_ring_size: true, maximum_ring_size: true, hash_function: true },
  maglev_lb_config: { table_size: true },
  common_lb_config: {
    healthy_panic_threshold: true,
    zone_aware_lb_config: ZONE_AWARE,
    locality_weighted_lb_config: {},
    consistent_hashing_lb_config: HASHING,
    // How often Envoy works changes in; ours are worked in at once, and what is to be seen is the same.
    update_merge_window: true,
    ignore_new_hosts_until_first_hc: true,
  },
  load_balancing_policy: { policies: { typed_extension_config: { name: true, typed_config: true } } },
} as const

const LOCALITY = { zone_aware_lb_config: ZONE_AWARE, locality_weighted_lb_config: {} } as const
export const LEAST_REQUEST = {
  choice_count: true,
  active_request_bias: BIAS,
  locality_lb_config: LOCALITY,
  selection_method: true,
} as const
export const RING_HASH = {
  hash_function: true,
  minimum_ring_size: true,
  maximum_ring_size: true,
  use_hostname_for_hashing: true,
  consistent_hashing_lb_config: HASHING,
  locality_weighted_lb_config: {},
} as const
export const MAGLEV = {
  table_size: true,
  consistent_hashing_lb_config: HASHING,
  locality_weighted_lb_config: {},
} as const

/** Envoy's defaults; its panic threshold is 50 % where none is named. */
const DEFAULTS: BalancingConfig = {
  policy: 'ROUND_ROBIN',
  choiceCount: 2,
  activeRequestBias: 1,
  minimumRingSize: 1_024,
  maximumRingSize: 65_536,
  hashFunction: 'XX_HASH',
  tableSize: 65_537,
  useHostnameForHashing: false,
  localityWeighted: false,
  panicThreshold: 50,
  failTrafficOnPanic: false,
}
/** Envoy allows 8,388,608; a ring is built on the loop that carries traffic, 2.5 µs a place. */
const MAX_RING_SIZE = 65_536
/** Envoy allows 5,000,011; a table has four bytes a place, for each priority of each upstream. */
const MAX_TABLE_SIZE = 655_373

/** `lb_policy` with its configuration, or `load_balancing_policy`, whose first policy that is known here counts. */
export function readBalancing(ctx: AcceptContext, message: Cluster): BalancingConfig {
  const common = readCommon(ctx, message.commonLbConfig)
  const extension = message.loadBalancingPolicy
  if (extension !== undefined) return checked(ctx, readExtension(ctx, message, common))
  if (message.lbPolicy === LbPolicy.LOAD_BALANCING_POLICY_CONFIG)
    ctx.refuse('load_balancing_policy', 'expected one, for LOAD_BALANCING_POLICY_CONFIG')
  return checked(ctx, { ...common, ...readLegacy(ctx, message) })
}

function readCommon(ctx: AcceptContext, common: Cluster_CommonLbConfig | undefined): BalancingConfig {
  const panicThreshold = common?.healthyPanicThreshold?.value ?? DEFAULTS.panicThreshold
  if (!(panicThreshold >= 0 && panicThreshold <= 100))
    ctx.refuse('common_lb_config.healthy_panic_threshold', `expected 0 to 100, found ${panicThreshold}`)
  return {
    ...DEFAULTS,
    // Envoy reads the percentage as a whole number, rounded down.
    panicThreshold: Math.floor(panicThreshold),
    useHostnameForHashing: common?.consistentHashingLbConfig?.useHostnameForHashing ?? false,
    ...readLocality(ctx, common?.localityConfigSpecifier, 'common_lb_config.zone_aware_lb_config'),
  }
}

interface ZoneAware {
  readonly routingEnabled?: { readonly value: number } | undefined
  readonly failTrafficOnPanic: boolean
}

function readLocality(
  ctx: AcceptContext,
  specifier:
    | { case: 'zoneAwareLbConfig'; value: ZoneAware }
    | { case: 'localityWeightedLbConfig' }
    | { case: undefined }
    | undefined,
  path: string,
): Pick<BalancingConfig, 'localityWeighted' | 'failTrafficOnPanic'> {
  const zone = specifier?.case === 'zoneAwareLbConfig' ? specifier.value : undefined
  if (zone?.routingEnabled !== undefined && zone.routingEnabled.value !== 0)
    ctx.refuse(`${path}.routing_enabled`, 'expected 0: routing by zone is not supported')
  return {
    localityWeighted: specifier?.case === 'localityWeightedLbConfig',
    failTrafficOnPanic: zone?.failTrafficOnPanic ?? false,
  }
}

function readLegacy(ctx: AcceptContext, { lbPolicy, lbConfig }: Cluster): Partial<BalancingConfig> {
  switch (lbPolicy) {
    case LbPolicy.ROUND_ROBIN:
      return { policy: 'ROUND_ROBIN' }
    case LbPolicy.RANDOM:
      return { policy: 'RANDOM' }
    case LbPolicy.LEAST_REQUEST: {
      const config = lbConfig.case === 'leastRequestLbConfig' ? lbConfig.value : undefined
      return {
        policy: 'LEAST_REQUEST',
        choiceCount: config?.choiceCount ?? DEFAULTS.choiceCount,
        activeRequestBias: config?.activeRequestBias?.defaultValue ?? DEFAULTS.activeRequestBias,
      }
    }
    case LbPolicy.RING_HASH: {
      const config = lbConfig.case === 'ringHashLbConfig' ? lbConfig.value : undefined
      return {
        policy: 'RING_HASH',
        minimumRingSize: Number(config?.minimumRingSize ?? DEFAULTS.minimumRingSize),
        maximumRingSize: Number(config?.maximumRingSize ?? DEFAULTS.maximumRingSize),
        hashFunction: config?.hashFunction === RingHashFunction.MURMUR_HASH_2 ? 'MURMUR_HASH_2' : 'XX_HASH',
      }
    }
    case LbPolicy.MAGLEV: {
      const config = lbConfig.case === 'maglevLbConfig' ? lbConfig.value : undefined
      return { policy: 'MAGLEV', tableSize: Number(config?.tableSize ?? DEFAULTS.tableSize) }
    }
    default:
      ctx.refuse(
        'lb_policy',
        `expected ROUND_ROBIN, LEAST_REQUEST, RANDOM, RING_HASH or MAGLEV, found ${LbPolicy[lbPolicy] ?? lbPolicy}`,
      )
      return {}
  }
}

/** Locality weights are the policy's own affair in this form; the panic threshold stays common. */
function readExtension(ctx: AcceptContext, message: Cluster, common: BalancingConfig): BalancingConfig {
  const policies = message.loadBalancingPolicy?.policies ?? []
  const at = 'load_balancing_policy.policies'
  for (const [index, policy] of policies.entries()) {
    const any = policy.typedExtensionConfig?.typedConfig
    const path = `${at}[${index}].typed_extension_config.typed_config`
    const base = { ...common, localityWeighted: false, failTrafficOnPanic: false }
    switch (any && typeOf(any)) {
      case RoundRobinSchema.typeName: {
        const config = any && ctx.unpack(any, RoundRobinSchema, { locality_lb_config: LOCALITY }, path)
        return { ...base, policy: 'ROUND_ROBIN', ...ofPolicy(ctx, config, path) }
      }
      case RandomSchema.typeName: {
        const config = any && ctx.unpack(any, RandomSchema, { locality_lb_config: LOCALITY }, path)
        return { ...base, policy: 'RANDOM', ...ofPolicy(ctx, config, path) }
      }
      case LeastRequestSchema.typeName: {
        const config = any && ctx.unpack(any, LeastRequestSchema, LEAST_REQUEST, path)
        if (config?.selectionMethod) ctx.refuse(`${path}.selection_method`, 'expected N_CHOICES')
        return {
          ...base,
          policy: 'LEAST_REQUEST',
          choiceCount: config?.choiceCount ?? DEFAULTS.choiceCount,
          activeRequestBias: config?.activeRequestBias?.defaultValue ?? DEFAULTS.activeRequestBias,
          ...ofPolicy(ctx, config, path),
        }
      }
      case RingHashSchema.typeName: {
        const config = any && ctx.unpack(any, RingHashSchema, RING_HASH, path)
        const { useHostnameForHashing: inOwn } = config?.consistentHashingLbConfig ?? {}
        return {
          ...base,
          policy: 'RING_HASH',
          minimumRingSize: Number(config?.minimumRingSize ?? DEFAULTS.minimumRingSize),
          maximumRingSize: Number(config?.maximumRingSize ?? DEFAULTS.maximumRingSize),
          hashFunction:
            config?.hashFunction === RingHash_HashFunction.MURMUR_HASH_2 ? 'MURMUR_HASH_2' : 'XX_HASH',
          useHostnameForHashing: inOwn ?? config?.useHostnameForHashing ?? false,
          localityWeighted: config?.localityWeightedLbConfig !== undefined,
        }
      }
      case MaglevSchema.typeName: {
        const config = any && ctx.unpack(any, MaglevSchema, MAGLEV, path)
        return {
          ...base,
          policy: 'MAGLEV',
          tableSize: Number(config?.tableSize ?? DEFAULTS.tableSize),
          useHostnameForHashing: config?.consistentHashingLbConfig?.useHostnameForHashing ?? false,
          localityWeighted: config?.localityWeightedLbConfig !== undefined,
        }
      }
      default:
        // An Envoy would take this one; what no Envoy knows either is passed over, as there.
        if (any && typeOf(any).startsWith('envoy.extensions.load_balancing_policies.'))
          ctx.refuse(path, `${typeOf(any)} is not supported`)
    }
  }
  ctx.refuse(at, 'expected one of RoundRobin, Random, LeastRequest, RingHash or Maglev')
  return common
}

function ofPolicy(
  ctx: AcceptContext,
  config:
    | {
        readonly localityLbConfig?:
          | { readonly localityConfigSpecifier: Parameters<typeof readLocality>[1] }
          | undefined
      }
    | undefined,
  path: string,
): Pick<BalancingConfig, 'localityWeighted' | 'failTrafficOnPanic'> {
  const at = `${path}.locality_lb_config.zone_aware_lb_config`
  return readLocality(ctx, config?.localityLbConfig?.localityConfigSpecifier, at)
}

function checked(ctx: AcceptContext, config: BalancingConfig): BalancingConfig {
  const { policy, choiceCount, activeRequestBias, minimumRingSize, maximumRingSize, tableSize } = config
  if (choiceCount < 2)
    ctx.refuse('least_request_lb_config.choice_count', `expected at least 2, found ${choiceCount}`)
  if (!(activeRequestBias >= 0 && Number.isFinite(activeRequestBias)))
    ctx.refuse(
      'least_request_lb_config.active_request_bias',
      `expected at least 0, found ${activeRequestBias}`,
    )
  if (policy === 'RING_HASH') {
    if (minimumRingSize > MAX_RING_SIZE)
      ctx.refuse(
        'ring_hash_lb_config.minimum_ring_size',
        `expected at most ${MAX_RING_SIZE}, found ${minimumRingSize}`,
      )
    if (minimumRingSize > maximumRingSize)
      ctx.refuse(
        'ring_hash_lb_config.maximum_ring_size',
        `expected at least minimum_ring_size (${minimumRingSize}), found ${maximumRingSize}`,
      )
  }
  if (policy === 'MAGLEV' && (tableSize > MAX_TABLE_SIZE || !isPrime(tableSize)))
    ctx.refuse('maglev_lb_config.table_size', `expected a prime up to ${MAX_TABLE_SIZE}, found ${tableSize}`)
  return { ...config, maximumRingSize: Math.min(maximumRingSize, MAX_RING_SIZE) }
}

function isPrime(n: number): boolean {
  if (n < 2) return false
  for (let divisor = 2; divisor * divisor <= n; divisor += 1) if (n % divisor === 0) return false
  return true
}
