import { formatLifetime } from '../identity/lifetime.ts'
import { textTable } from './text-table.ts'

type Members = Readonly<Record<string, unknown>>

/** Whether it is what a gateway or sidecar says of itself. */
export function isProxyStatus(status: unknown): status is Members {
  return isMap(status) && isMap(status['discovery']) && 'workers' in status
}

/** A gateway's or sidecar's status in a few lines; all of it is there with `-o json`. Every part may be absent: the other end may be another version. */
export function formatProxyStatus(status: Members, nowMs: number): string[] {
  const engine = map(map(status['worker'])['engine'])
  const counters = map(engine['counters'])
  const connections = map(engine['connections'])
  const rows = [
    [
      text(status['kind']),
      status['ready'] === true ? 'ready' : `not ready, waits for ${list(status['pending']).join('; ')}`,
    ],
    ['discovery', discovery(map(status['discovery']), status)],
    ['resources', entries(map(status['resources']))],
    ['credential', credential(map(status['credential']), nowMs)],
    ['workers', list(status['workers']).map(worker).join(', ')],
    [
      'connections',
      `${text(connections['open'])} open, ${text(counters['accepted'])} accepted, endings ${entries(map(counters['byFlag']))}`,
    ],
  ]
  const troubles = [
    ...list(status['refused']),
    ...list(status['credentialProblems']),
    ...list(status['snapshotProblems']),
    ...list(engine['problems']),
  ].map(trouble)
  const asleep = list(engine['listeners'])
    .map(map)
    .filter(({ phase }) => phase !== 'listening')
    .map(
      ({ name, phase, detail }) =>
        `listener ${text(name)}: ${[text(phase), text(detail)].filter(Boolean).join(', ')}`,
    )
  return [...textTable(rows), ...[...troubles, ...asleep].map((line) => `  ✗ ${line}`)]
}

function discovery({ address, phase, lastError }: Members, { nacks, lastUpdate, source }: Members): string {
  const parts = [
    `${text(address)} ${text(phase)}`,
    `serves what ${source === 'snapshot' ? 'the snapshot on disk says' : 'discovery said'}, last at ${text(lastUpdate) || '-'}`,
    nacks === 0 || nacks === undefined ? '' : `${text(nacks)} refused`,
    text(lastError),
  ]
  return parts.filter((part) => part !== '').join('; ')
}

function credential({ id, notAfter }: Members, nowMs: number): string {
  if (id === undefined) return '-'
  const left = Date.parse(text(notAfter)) - nowMs
  return Number.isNaN(left) ? text(id) : `${text(id)}, ${formatLifetime(left)}${left > 0 ? ' left' : ''}`
}

function worker(value: unknown): string {
  const { pid, runtime, version, state } = map(value)
  return `${text(pid)} ${text(state)} on ${text(runtime)} ${text(version)}`
}

function trouble(value: unknown): string {
  if (!isMap(value)) return text(value)
  return ['object', 'field', 'message']
    .map((part) => text(value[part]))
    .filter((part) => part !== '')
    .join(': ')
}

const isMap = (value: unknown): value is Members =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
const map = (value: unknown): Members => (isMap(value) ? value : {})
const list = (value: unknown): readonly unknown[] => (Array.isArray(value) ? value : [])
const text = (value: unknown): string => (value === undefined || value === null ? '' : String(value))
const entries = (value: Members): string =>
  Object.entries(value)
    .map(([name, count]) => `${name} ${text(count)}`)
    .join(', ') || '-'
