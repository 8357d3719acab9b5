import type { OutlierDetection } from '../xds/gen/envoy/config/cluster/v3/outlier_detection_pb.js'
import type { AcceptContext } from './accept-context.ts'
import type { OutlierConfig } from './upstream-types.ts'

/** Everything but `monitors` and what only HTTP answers can tell (`detect_degraded_hosts`). */
export const OUTLIER_FIELDS = {
  consecutive_5xx: true,
  enforcing_consecutive_5xx: true,
  consecutive_gateway_failure: true,
  enforcing_consecutive_gateway_failure: true,
  split_external_local_origin_errors: true,
  consecutive_local_origin_failure: true,
  enforcing_consecutive_local_origin_failure: true,
  interval: true,
  base_ejection_time: true,
  max_ejection_time: true,
  max_ejection_time_jitter: true,
  max_ejection_percent: true,
  always_eject_one_host: true,
  successful_active_health_check_uneject_host: true,
  success_rate_minimum_hosts: true,
  success_rate_request_volume: true,
  success_rate_stdev_factor: true,
  enforcing_success_rate: true,
  enforcing_local_origin_success_rate: true,
  failure_percentage_threshold: true,
  failure_percentage_minimum_hosts: true,
  failure_percentage_request_volume: true,
  enforcing_failure_percentage: true,
  enforcing_failure_percentage_local_origin: true,
} as const

const AT = 'outlier_detection'

/**
 * Envoy's rules as they work out for TCP. All that TCP ever reports is local in origin: a connect (TLS included) that failed or did
 * not. With the split it counts as such; without it a failed connect counts as a 503 or 504, so as a 5xx and a gateway failure.
 */
export function readOutlier(
  ctx: AcceptContext,
  message: OutlierDetection | undefined,
): OutlierConfig | undefined {
  if (message === undefined) return undefined
  const positive = (
    name: 'interval' | 'baseEjectionTime' | 'maxEjectionTime',
    field: string,
    fallback: number,
  ) => {
    const ms = ctx.durationMs(message[name], fallback, `${AT}.${field}`)
    if (ms === 0) ctx.refuse(`${AT}.${field}`, 'expected more than 0')
    return ms
  }
  const percent = (value: number | undefined, field: string, fallback: number): number => {
    if (value !== undefined && value > 100) ctx.refuse(`${AT}.${field}`, `expected 0 to 100, found ${value}`)
    return value ?? fallback
  }
  const split = message.splitExternalLocalOriginErrors
  const baseEjectionMs = positive('baseEjectionTime', 'base_ejection_time', 30_000)
  const maxEjectionMs = positive('maxEjectionTime', 'max_ejection_time', Math.max(300_000, baseEjectionMs))
  if (maxEjectionMs < baseEjectionMs)
    ctx.refuse(`${AT}.max_ejection_time`, 'expected at least base_ejection_time')
  const fives = percent(message.enforcingConsecutive5xx, 'enforcing_consecutive_5xx', 100)
  const gateway = percent(
    message.enforcingConsecutiveGatewayFailure,
    'enforcing_consecutive_gateway_failure',
    0,
  )
  const local = percent(
    message.enforcingConsecutiveLocalOriginFailure,
    'enforcing_consecutive_local_origin_failure',
    100,
  )
  const rate = percent(message.enforcingSuccessRate, 'enforcing_success_rate', 100)
  const localRate = percent(
    message.enforcingLocalOriginSuccessRate,
    'enforcing_local_origin_success_rate',
    100,
  )
  const failures = percent(message.enforcingFailurePercentage, 'enforcing_failure_percentage', 0)
  const localFailures = percent(
    message.enforcingFailurePercentageLocalOrigin,
    'enforcing_failure_percentage_local_origin',
    0,
  )
  return {
    consecutiveFailures: (split ? message.consecutiveLocalOriginFailure : message.consecutive5xx) ?? 5,
    enforcingConsecutive: split ? local : fives,
    consecutiveGatewayFailures: split ? 0 : (message.consecutiveGatewayFailure ?? 5),
    enforcingGatewayFailures: split ? 0 : gateway,
    intervalMs: positive('interval', 'interval', 10_000),
    baseEjectionMs,
    maxEjectionMs,
    maxEjectionJitterMs: ctx.durationMs(message.maxEjectionTimeJitter, 0, `${AT}.max_ejection_time_jitter`),
    maxEjectionPercent: percent(message.maxEjectionPercent, 'max_ejection_percent', 10),
    alwaysEjectOne: message.alwaysEjectOneHost ?? false,
    healthCheckUnejects: message.successfulActiveHealthCheckUnejectHost ?? true,
    successRate: {
      enforcing: split ? localRate : rate,
      minimumHosts: message.successRateMinimumHosts ?? 5,
      volume: message.successRateRequestVolume ?? 100,
      stdevFactor: message.successRateStdevFactor ?? 1_900,
    },
    failurePercentage: {
      enforcing: split ? localFailures : failures,
      threshold: percent(message.failurePercentageThreshold, 'failure_percentage_threshold', 85),
      minimumHosts: message.failurePercentageMinimumHosts ?? 5,
      volume: message.failurePercentageRequestVolume ?? 50,
    },
  }
}
