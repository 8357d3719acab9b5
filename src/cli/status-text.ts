import { stringify } from 'yaml'
import type { discoveryStatus } from '../discovery/status.ts'
import { shortType } from '../xds/types.ts'
import { formatProxyStatus, isProxyStatus } from './proxy-status-text.ts'
import { textTable } from './text-table.ts'

/** What discovery's `/status` says. Every part may be absent: the other end may be another version. */
type DiscoveryStatus = Partial<ReturnType<typeof discoveryStatus>>

/** Lines for an operator. What is neither a discovery server's nor a proxy's status is printed as it came, as YAML. */
export function formatStatus(status: unknown): string[] {
  if (isProxyStatus(status)) return formatProxyStatus(status, Date.now())
  if (typeof status !== 'object' || status === null || !('exposures' in status)) {
    return stringify(status, { lineWidth: 0 })
      .trimEnd()
      .split('\n')
      .map((line) => `  ${line}`)
  }
  const discovery = status as DiscoveryStatus
  return [
    ...head(discovery),
    ...peers(discovery),
    ...gateways(discovery),
    ...services(discovery),
    ...imports(discovery),
    ...clients(discovery),
    ...troubles(discovery),
  ]
}

/** A heading and its rows, or the heading with `none`. */
function section(title: string, rows: readonly (readonly string[])[]): string[] {
  return rows.length === 0 ? [`${title}: none`] : [`${title}:`, ...textTable(rows)]
}

const orDash = (text: string): string => (text === '' ? '-' : text)

function head({
  cluster = '',
  network = '',
  trustDomain = '',
  pending = [],
  clients = [],
}: DiscoveryStatus): string[] {
  const ready = pending.length === 0 ? 'ready' : `not ready, waits for ${pending.join(', ')}`
  return [
    `cluster ${cluster}, network ${orDash(network)}, trust domain ${trustDomain}; ${ready}; ${clients.length} clients`,
  ]
}

function peers({ peers = [] }: DiscoveryStatus): string[] {
  const rows = peers.map(({ cluster, adsAddress, connected, stale, entries, allowed, reason, error }) => {
    const state = connected ? 'connected' : adsAddress === '' ? 'it dials us' : 'not connected'
    const offers = `offers ${entries} hosts${stale ? ', stale' : ''}`
    const why = [allowed ? '' : `not reachable: ${reason}`, error].filter((text) => text !== '').join('; ')
    return [cluster, orDash(adsAddress), state, offers, why]
  })
  return section('peers', rows)
}

function gateways({ gateways = [] }: DiscoveryStatus): string[] {
  const rows = gateways.map(({ namespace, name, addresses, addressReason }) => {
    const at = addresses.map(({ address, port }) => `${address} port ${port}`).join(', ')
    return [`${namespace}/${name}`, at === '' ? 'AwaitingAddress' : at, addressReason]
  })
  return section('gateways', rows)
}

function services({ exposures = [], gateways = [] }: DiscoveryStatus): string[] {
  const waiting = new Set(
    gateways
      .filter(({ addresses }) => addresses.length === 0)
      .map(({ namespace, name }) => `${namespace}/${name}`),
  )
  const exposed = exposures.filter((each) => each.exposed)
  const closed = exposures.filter((each) => !each.exposed)
  return [
    ...section(
      'exposed',
      exposed.map(({ host, ports, rule, gateway, mode, modeReason, reason }) => [
        host,
        ports.join(','),
        rule,
        waiting.has(gateway) ? `${gateway} (AwaitingAddress)` : gateway,
        mode,
        modeReason === 'the default' ? reason : `${reason}; ${modeReason}`,
      ]),
    ),
    ...section(
      'not exposed',
      closed.map(({ host, reason }) => [host, reason]),
    ),
  ]
}

function imports({ imports = [] }: DiscoveryStatus): string[] {
  const rows = imports.map(({ host, ports, endpoints }) => {
    const clusters = new Set(endpoints.map(({ cluster }) => cluster).filter((cluster) => cluster !== ''))
    const at = endpoints.flatMap(({ address, ports }) =>
      Object.values(ports).map((port) => `${address} port ${port}`),
    )
    return [
      host,
      ports.map(({ number }) => number).join(','),
      orDash([...clusters].join(',')),
      [...new Set(at)].join(', '),
    ]
  })
  return section('imported', rows)
}

const SHORT_TYPES: Readonly<Record<string, string>> = {
  Listener: 'LDS',
  RouteConfiguration: 'RDS',
  Cluster: 'CDS',
  ClusterLoadAssignment: 'EDS',
  Secret: 'SDS',
  NameTable: 'NDS',
}

/** One line per client, and one more for each type of which it has not what it should. */
function clients({ clients = [] }: DiscoveryStatus): string[] {
  const rows = clients.flatMap(({ nodeId, kind, view, address, variant, connectedForS, blocked, types }) => {
    const entries = Object.entries(types).map(([typeUrl, type]) => ({ name: usualName(typeUrl), ...type }))
    const acked = entries.filter(({ settled, refusing }) => settled && !refusing)
    const late = entries.filter(({ settled, refusing }) => !settled || refusing)
    const has = acked.map(({ name, ackedVersion }) => `${name} ${shortVersion(ackedVersion)}`).join(' ')
    const state = `${variant}, ${connectedForS} s${blocked ? ', reads nothing' : ''}`
    return [
      [nodeId, kind, view, address, state, has === '' ? '-' : has],
      ...late.map(({ name, sentVersion, ackedVersion, nackedVersion, refusing, lastError, lagMs }) => [
        '',
        '',
        '',
        '',
        `✗ ${name}`,
        [
          `sent ${shortVersion(sentVersion)}, has ${shortVersion(ackedVersion)}`,
          !refusing ? '' : `refused ${shortVersion(nackedVersion)}: ${lastError}`,
          lagMs === 0 ? '' : `no answer for ${(lagMs / 1_000).toFixed(1)} s`,
        ]
          .filter((part) => part !== '')
          .join('; '),
      ]),
    ]
  })
  return section('clients', rows)
}

function usualName(typeUrl: string): string {
  const name = shortType(typeUrl)
  return SHORT_TYPES[name] ?? name
}

const shortVersion = (version: string): string => (version === '' ? '-' : version.slice(0, 8))

function troubles({ conditions = [], problems = [] }: DiscoveryStatus): string[] {
  const failing = conditions.filter((condition) => !condition.status)
  return [
    ...section(
      'problems',
      problems.map(({ object, field, message }) => [
        [object, field, message].filter((part) => part !== '').join(': '),
      ]),
    ),
    ...section(
      'conditions that do not hold',
      failing.map(({ object, type, reason, message }) => [object, `${type}=False`, reason, message]),
    ),
  ]
}
