import { Command } from 'commander'
import type { Plan, PlannedChange } from '../discovery/plan.ts'
import { formatProblem, type Result } from '../lib/result.ts'
import { refOf } from '../objects/types.ts'
import { callAdmin, parseHostPort } from './admin-request.ts'
import { DEFAULT_ADMIN } from './asked.ts'
import {
  collect,
  collectPair,
  EXIT_USAGE,
  processTerminal,
  readGiven,
  sayProblems,
  type Terminal,
} from './object-command.ts'
import { readState } from './state.ts'
import { textTable } from './text-table.ts'

export interface PlanOptions {
  readonly filename: readonly string[]
  readonly delete?: boolean
  readonly admin?: string
  readonly state?: string
  readonly cluster?: string
  readonly set: Readonly<Record<string, string>>
  readonly output: string
}

/** `isthmus plan -f DIR`. Exit codes: 0 planned, 1 discovery does not answer or would refuse a document, 64 bad usage or input. */
export function command(): Command {
  return new Command('isthmus plan')
    .description('what would be different if objects were applied, or deleted; nothing is')
    .requiredOption(
      '-f, --filename <file>',
      'file, directory or - for standard input; may be repeated',
      collect,
    )
    .option('--delete', 'as if they were deleted')
    .option('--admin <host:port>', `admin port of the discovery of the cluster (default ${DEFAULT_ADMIN})`)
    .option('--state <file>', 'the file of isthmus demo --state')
    .option('--cluster <id>', 'which cluster of the state file')
    .option(
      '--set <name=value>',
      'value for a placeholder in the YAML; else the environment has it',
      collectPair,
    )
    .option('-o, --output <form>', 'text or json', 'text')
    .action(async (options: Omit<PlanOptions, 'set'> & Partial<PlanOptions>) => {
      process.exitCode = await runPlan({ ...options, set: options.set ?? {} }, processTerminal)
    })
}

async function runPlan(options: PlanOptions, terminal: Terminal): Promise<number> {
  const usage = (message: string) => {
    terminal.err(`isthmus plan: ${message}\n`)
    return EXIT_USAGE
  }
  if (options.output !== 'text' && options.output !== 'json')
    return usage(`--output: found "${options.output}", expected text or json`)
  const admin = adminOf(options)
  if (!('address' in admin)) return usage(admin.error)
  const { objects, problems } = await readGiven(options.filename, { dir: [], set: options.set }, terminal)
  sayProblems(problems, terminal, 'error')
  if (problems.length > 0) return EXIT_USAGE
  if (objects.length === 0) return usage('no objects given')
  const edit =
    options.delete === true
      ? { apply: [], delete: objects.map(({ object }) => refOf(object)) }
      : { apply: objects.map(({ doc }) => doc), delete: [] }
  const reply = await callAdmin(admin.address, '/plan', {
    method: 'POST',
    body: JSON.stringify(edit),
    timeoutMs: 60_000,
  })
  const plan = planOf(reply, admin.address)
  if (typeof plan === 'string') {
    terminal.err(`isthmus plan: ${plan}\n`)
    return 1
  }
  terminal.out(
    options.output === 'json' ? `${JSON.stringify(plan, null, 2)}\n` : `${formatPlan(plan).join('\n')}\n`,
  )
  return plan.problems.length > 0 ? 1 : 0
}

function adminOf({ admin, state, cluster }: PlanOptions): { address: string } | { error: string } {
  if (state === undefined) {
    const address = admin ?? DEFAULT_ADMIN
    return parseHostPort(address) === undefined
      ? { error: `--admin: found "${address}", expected host:port` }
      : { address }
  }
  if (admin !== undefined) return { error: 'expected --admin or --state, found both' }
  const read = readState(state)
  if (!read.ok) return { error: `--state ${read.error}` }
  const ids = read.value.map(({ id }) => id).join(', ')
  const found = read.value.find(({ id }) => id === cluster)
  if (found === undefined) return { error: `--cluster: found "${cluster ?? ''}", expected one of ${ids}` }
  return found.discovery === undefined
    ? { error: `discovery of ${found.id} is not running` }
    : { address: found.discovery }
}

function planOf(reply: Result<{ status: number; body: string }, string>, admin: string): Plan | string {
  if (!reply.ok) return reply.error
  const { status, body } = reply.value
  if (status !== 200) return `http://${admin}/plan answered ${status}: ${body.trim().slice(0, 200)}`
  try {
    const plan = JSON.parse(body) as Plan
    if (Array.isArray(plan.objects)) return plan
  } catch {}
  return `http://${admin}/plan answered with something else; is this the admin port of a discovery?`
}

const SIGNS = { added: '+', changed: '~', removed: '-' } as const
const OBJECT_SIGNS = { created: '+', configured: '~', deleted: '-', unchanged: '=', missing: '?' } as const

function formatPlan(plan: Plan): string[] {
  const moved = plan.objects.filter(({ change }) => change !== 'unchanged')
  const still = plan.objects.length - moved.length
  return [
    `cluster ${plan.cluster}: ${moved.length} objects would change, ${still} would stay`,
    ...textTable(moved.map(({ object, change }) => [OBJECT_SIGNS[change], object, change])),
    ...(plan.problems.length === 0
      ? []
      : ['refused:', ...plan.problems.map((one) => `  ✗ ${formatProblem(one)}`)]),
    ...section('exposed', plan.exposed),
    ...section('access', plan.access, { added: 'gains', changed: 'keeps', removed: 'loses' }),
    ...section('told to peers', plan.told),
    ...section('policies', plan.policies),
    ...section('conditions that do not hold', plan.conditions),
    ...pushes(plan.pushes),
    'nothing was changed',
  ]
}

function section(
  title: string,
  changes: readonly PlannedChange[],
  words?: Record<PlannedChange['change'], string>,
): string[] {
  if (changes.length === 0) return []
  const rows = changes.map(({ change, subject, detail }) =>
    words === undefined ? [SIGNS[change], subject, detail] : [SIGNS[change], words[change], subject, detail],
  )
  return [`${title}:`, ...textTable(rows)]
}

function pushes({ clients, responses, types }: Plan['pushes']): string[] {
  if (responses === 0) return ['pushes: none to the clients that are connected now']
  const rows = Object.entries(types).map(([type, { clients, added, changed, removed }]) => [
    type,
    `to ${clients}`,
    `+${added.length} ~${changed.length} -${removed.length}`,
    [...added, ...changed, ...removed].slice(0, 3).join(', '),
  ])
  return [`pushes: ${responses} responses to ${clients} clients:`, ...textTable(rows)]
}
