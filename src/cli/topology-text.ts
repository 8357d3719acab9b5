import type { Topology } from '../discovery/topology.ts'
import { textTable } from './text-table.ts'

/** What several clusters say, put together: each speaks for itself, and of the others only what they do not say themselves. */
export function formatTopology(said: readonly Topology[]): string[] {
  return [
    ...section('clusters', clusterRows(said)),
    ...section('networks', networkRows(said)),
    ...section('calls (from each row to each column)', callRows(said)),
    ...said.flatMap(disagreements),
    ...section('gateways', gatewayRows(said)),
    ...section('exposed', exposedRows(said)),
    ...section('imported', importedRows(said)),
  ]
}

function section(title: string, rows: readonly (readonly string[])[]): string[] {
  return rows.length === 0 ? [`${title}: none`] : [`${title}:`, ...textTable(rows)]
}

const named = (network: string): string => (network === '' ? '(unnamed)' : network)
const listed = (items: readonly unknown[]): string => (items.length === 0 ? '-' : items.join(','))

function clusterRows(said: readonly Topology[]): string[][] {
  const speakers = new Set(said.map(({ cluster }) => cluster))
  const rows = new Map<string, string[]>()
  for (const { cluster, clusters } of said) {
    for (const { id, network, trustDomain, locality, relation } of clusters) {
      if (rows.has(id) && id !== cluster) continue
      const links = said
        .filter((one) => one.clusters.some((each) => each.id === id && each.relation === 'peer'))
        .map((one) => one.cluster)
      const state =
        links.length > 0 ? `linked to ${links.join(', ')}` : relation === 'self' ? '' : 'not linked'
      const silent = speakers.has(id) ? '' : ', not asked'
      rows.set(id, [id, named(network), trustDomain, locality === '' ? '-' : locality, `${state}${silent}`])
    }
  }
  return [...rows.values()].sort(byFirst)
}

function networkRows(said: readonly Topology[]): string[][] {
  const rows = new Map<string, string[]>()
  for (const { networks, reachability } of said) {
    for (const { name, clusters } of networks) {
      const reaches = reachability
        .filter(({ from, allowed }) => from === name && allowed)
        .map(({ to }) => named(to))
      rows.set(name, [
        named(name),
        listed(clusters),
        reaches.length === 0 ? 'reaches no other' : `reaches ${reaches.join(', ')}`,
      ])
    }
  }
  return [...rows.values()].sort(byFirst)
}

/** The serving cluster decides; where it was not asked, the caller's copy has a question mark. */
function callRows(said: readonly Topology[]): string[][] {
  const ids = [...new Set(said.flatMap(({ clusters }) => clusters.map(({ id }) => id)))].sort()
  if (ids.length < 2) return []
  const cell = (from: string, to: string): string => {
    if (from === to) return '·'
    const serving = verdictOf(said, to, from, to)
    const calling = verdictOf(said, from, from, to)
    if (serving === undefined) return calling === undefined ? '?' : calling ? 'yes?' : 'no?'
    if (calling !== undefined && calling !== serving) return 'no!'
    return serving ? 'yes' : 'no'
  }
  return [['', ...ids], ...ids.map((from) => [from, ...ids.map((to) => cell(from, to))])]
}

function verdictOf(
  said: readonly Topology[],
  speaker: string,
  from: string,
  to: string,
): boolean | undefined {
  const calls = said.find(({ cluster }) => cluster === speaker)?.calls
  return calls?.find((call) => call.from === from && call.to === to)?.allowed
}

function disagreements({ cluster, calls }: Topology, _: number, said: readonly Topology[]): string[] {
  return calls
    .filter(({ from, to, allowed }) => to === cluster && differs(verdictOf(said, from, from, to), allowed))
    .map(({ from, to, allowed, reason }) => {
      const theirs = said
        .find((one) => one.cluster === from)
        ?.calls.find((call) => call.from === from && call.to === to)
      const word = (yes: boolean | undefined) => (yes ? 'allows' : 'refuses')
      return `  ! ${from} to ${to}: ${to} ${word(allowed)} it (${reason}), ${from} ${word(theirs?.allowed)} it (${theirs?.reason}); it is refused`
    })
}

const differs = (one: boolean | undefined, other: boolean): boolean => one !== undefined && one !== other

function gatewayRows(said: readonly Topology[]): string[][] {
  return said.flatMap(({ cluster, gateways }) =>
    gateways.map(({ name, addresses, addressReason, policies }) => [
      cluster,
      name,
      addresses.length === 0
        ? `AwaitingAddress: ${addressReason}`
        : addresses.map(({ address, port }) => `${address} port ${port}`).join(', '),
      policies.length === 0 ? '' : `policies ${policies.join(', ')}`,
    ]),
  )
}

function exposedRows(said: readonly Topology[]): string[][] {
  return said.flatMap(({ cluster, exposed }) =>
    exposed.map(({ host, ports, gateway, mode, callerVerified, callers, toldTo }) => [
      cluster,
      host,
      listed(ports),
      gateway,
      `${mode}, caller ${callerVerified ? 'verified' : 'unverified'}`,
      `lets in ${listed(callers)}${sameList(callers, toldTo) ? '' : `, told to ${listed(toldTo)}`}`,
    ]),
  )
}

function importedRows(said: readonly Topology[]): string[][] {
  return said.flatMap(({ cluster, imported }) =>
    imported.map(({ host, ports, clusters, source }) => [
      cluster,
      host,
      listed(ports),
      clusters.length === 0 ? source : `from ${clusters.join(', ')}`,
    ]),
  )
}

const sameList = (a: readonly string[], b: readonly string[]): boolean => a.join() === b.join()
const byFirst = (a: readonly string[], b: readonly string[]): number => ((a[0] ?? '') < (b[0] ?? '') ? -1 : 1)
