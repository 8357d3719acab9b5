import { RequestMethod } from '../xds/gen/envoy/config/core/v3/base_pb.js'
import type {
  HealthCheck,
  HealthCheck_HttpHealthCheck,
  HealthCheck_Payload,
} from '../xds/gen/envoy/config/core/v3/health_check_pb.js'
import { CodecClientType } from '../xds/gen/envoy/type/v3/http_pb.js'
import type { Int64Range } from '../xds/gen/envoy/type/v3/range_pb.js'
import type { AcceptContext } from './accept-context.ts'
import type { HealthCheckConfig, HealthCheckKind, StatusRange } from './upstream-types.ts'

const PAYLOAD = { text: true, binary: true } as const
export const HEALTH_CHECK_FIELDS = {
  timeout: true,
  interval: true,
  initial_jitter: true,
  interval_jitter: true,
  interval_jitter_percent: true,
  unhealthy_threshold: true,
  healthy_threshold: true,
  reuse_connection: true,
  no_traffic_interval: true,
  no_traffic_healthy_interval: true,
  unhealthy_interval: true,
  unhealthy_edge_interval: true,
  healthy_edge_interval: true,
  always_log_health_check_failures: true,
  always_log_health_check_success: true,
  tls_options: { alpn_protocols: true },
  transport_socket_match_criteria: true,
  tcp_health_check: { send: PAYLOAD, receive: PAYLOAD },
  http_health_check: {
    host: true,
    path: true,
    method: true,
    receive: PAYLOAD,
    response_buffer_size: true,
    request_headers_to_add: { header: { key: true, value: true } },
    expected_statuses: true,
    retriable_statuses: true,
    codec_client_type: true,
  },
} as const

const AT = 'health_checks[0]'
const DEFAULT_NO_TRAFFIC_MS = 60_000
/** Envoy's default of `response_buffer_size`. */
const DEFAULT_RESPONSE_BYTES = 1_024
const OK: readonly StatusRange[] = [{ start: 200, end: 201 }]
const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/
/** What may stand in a header's value or a request's target: no control character, so no second line. */
const NO_CONTROL = /^[^\0-\x1f\x7f]*$/

/** TCP and HTTP/1.1 checks; over the endpoint's own transport socket, so over mutual TLS where traffic is. */
export function readHealthCheck(
  ctx: AcceptContext,
  checks: readonly HealthCheck[],
): HealthCheckConfig | undefined {
  const [message] = checks
  if (message === undefined) return undefined
  if (checks.length > 1) ctx.refuse('health_checks', `expected at most one, found ${checks.length}`)
  const ms = (
    name:
      | 'timeout'
      | 'interval'
      | 'noTrafficInterval'
      | 'noTrafficHealthyInterval'
      | 'unhealthyInterval'
      | 'unhealthyEdgeInterval'
      | 'healthyEdgeInterval',
    field: string,
    fallback: number | undefined,
  ): number => {
    const path = `${AT}.${field}`
    if (message[name] === undefined && fallback === undefined) ctx.refuse(path, 'expected a duration')
    const found = ctx.durationMs(message[name], fallback ?? 1_000, path)
    if (found === 0) ctx.refuse(path, 'expected more than 0')
    return found
  }
  const threshold = (value: number | undefined, field: string): number => {
    if (value === undefined || value === 0)
      ctx.refuse(`${AT}.${field}`, `expected at least 1, found ${value ?? 'none'}`)
    return value ?? 1
  }
  const intervalMs = ms('interval', 'interval', undefined)
  const unhealthyIntervalMs = ms('unhealthyInterval', 'unhealthy_interval', intervalMs)
  const noTrafficIntervalMs = ms('noTrafficInterval', 'no_traffic_interval', DEFAULT_NO_TRAFFIC_MS)
  return {
    check: readKind(ctx, message),
    timeoutMs: ms('timeout', 'timeout', undefined),
    intervalMs,
    unhealthyIntervalMs,
    unhealthyEdgeIntervalMs: ms('unhealthyEdgeInterval', 'unhealthy_edge_interval', unhealthyIntervalMs),
    healthyEdgeIntervalMs: ms('healthyEdgeInterval', 'healthy_edge_interval', intervalMs),
    noTrafficIntervalMs,
    noTrafficHealthyIntervalMs: ms(
      'noTrafficHealthyInterval',
      'no_traffic_healthy_interval',
      noTrafficIntervalMs,
    ),
    initialJitterMs: ctx.durationMs(message.initialJitter, 0, `${AT}.initial_jitter`),
    intervalJitterMs: ctx.durationMs(message.intervalJitter, 0, `${AT}.interval_jitter`),
    intervalJitterPercent: message.intervalJitterPercent,
    unhealthyThreshold: threshold(message.unhealthyThreshold, 'unhealthy_threshold'),
    healthyThreshold: threshold(message.healthyThreshold, 'healthy_threshold'),
    reuseConnection: message.reuseConnection ?? true,
    alpn: message.tlsOptions?.alpnProtocols ?? [],
    socketCriteria: message.transportSocketMatchCriteria,
    logFailures: message.alwaysLogHealthCheckFailures,
    logSuccesses: message.alwaysLogHealthCheckSuccess,
  }
}

function readKind(ctx: AcceptContext, { healthChecker: checker }: HealthCheck): HealthCheckKind {
  if (checker.case === 'httpHealthCheck') return readHttp(ctx, checker.value)
  if (checker.case !== 'tcpHealthCheck')
    ctx.refuse(`${AT}.health_checker`, 'expected a tcp_health_check or http_health_check')
  const tcp = checker.case === 'tcpHealthCheck' ? checker.value : undefined
  const at = `${AT}.tcp_health_check`
  return {
    kind: 'tcp',
    send: tcp?.send && readPayload(ctx, tcp.send, `${at}.send`),
    receive: (tcp?.receive ?? []).map((payload, i) => readPayload(ctx, payload, `${at}.receive[${i}]`)),
  }
}

function readHttp(ctx: AcceptContext, message: HealthCheck_HttpHealthCheck): HealthCheckKind {
  const at = `${AT}.http_health_check`
  if (!message.path.startsWith('/') || !NO_CONTROL.test(message.path) || message.path.includes(' '))
    ctx.refuse(`${at}.path`, `expected a path that begins with "/", found ${JSON.stringify(message.path)}`)
  if (!NO_CONTROL.test(message.host)) ctx.refuse(`${at}.host`, 'expected no control characters')
  if (message.codecClientType !== CodecClientType.HTTP1)
    ctx.refuse(
      `${at}.codec_client_type`,
      `expected HTTP1, found ${CodecClientType[message.codecClientType] ?? message.codecClientType}`,
    )
  const method = message.method === RequestMethod.METHOD_UNSPECIFIED ? 'GET' : RequestMethod[message.method]
  if (method === undefined || method === 'CONNECT')
    ctx.refuse(`${at}.method`, `expected a method other than CONNECT, found ${method ?? message.method}`)
  const expected = readRanges(ctx, message.expectedStatuses, `${at}.expected_statuses`)
  return {
    kind: 'http',
    method: method ?? 'GET',
    path: message.path,
    host: message.host,
    headers: message.requestHeadersToAdd.map(({ header }, i) => {
      const path = `${at}.request_headers_to_add[${i}].header`
      const { key = '', value = '' } = header ?? {}
      if (!TOKEN.test(key))
        ctx.refuse(`${path}.key`, `expected a header's name, found ${JSON.stringify(key)}`)
      // A value may hold commands in Envoy, `%…%`, which nothing here would fill in.
      if (!NO_CONTROL.test(value) || value.includes('%'))
        ctx.refuse(`${path}.value`, 'expected a literal: no control characters and no "%"')
      return [key, value] as const
    }),
    expected: expected.length === 0 ? OK : expected,
    retriable: readRanges(ctx, message.retriableStatuses, `${at}.retriable_statuses`),
    receive: message.receive.map((payload, i) => readPayload(ctx, payload, `${at}.receive[${i}]`)),
    responseBytes: Number(message.responseBufferSize ?? DEFAULT_RESPONSE_BYTES),
  }
}

function readRanges(ctx: AcceptContext, ranges: readonly Int64Range[], path: string): StatusRange[] {
  return ranges.map((range, i) => {
    const [start, end] = [Number(range.start), Number(range.end)]
    if (!(start < end && start >= 100 && end <= 600))
      ctx.refuse(`${path}[${i}]`, `expected 100 <= start < end <= 600, found ${start} and ${end}`)
    return { start, end }
  })
}

/** `text` is hexadecimal. */
function readPayload(ctx: AcceptContext, { payload }: HealthCheck_Payload, path: string): Buffer {
  if (payload.case === 'binary') return Buffer.from(payload.value)
  const text = payload.value ?? ''
  if (!/^([0-9a-fA-F]{2})+$/.test(text))
    ctx.refuse(`${path}.text`, `expected hexadecimal digits, found ${JSON.stringify(text)}`)
  return Buffer.from(text, 'hex')
}
