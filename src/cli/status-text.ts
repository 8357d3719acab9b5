import { stringify } from 'yaml'
import type { discoveryStatus } from '../discovery/status.ts'
import { textTable } from './text-table.ts'

/** What discovery's `/status` says. Every part may be absent: the other end may be another version. */
type DiscoveryStatus = Partial<ReturnType<typeof discoveryStatus>>

/** Lines for an operator. What is not a discovery server's status is printed as it came, as YAML. */
export function formatStatus(status: unknown): string[] {
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
