import { Command } from 'commander'
import { parseHostPort, requestJson } from './admin-request.ts'
import { readState, type StateCluster } from './state.ts'
import { formatStatus } from './status-text.ts'

/** Bad usage or configuration, as in sysexits.h. */
const EXIT_USAGE = 64
const DEFAULT_ADMIN = '127.0.0.1:15000'

interface StatusOptions {
  readonly admin: readonly string[]
  readonly state?: string
  readonly output: string
}

/** One process that is asked. */
interface Asked {
  readonly name: string
  readonly admin: string
}

interface Answer extends Asked {
  readonly status?: unknown
  readonly error?: string
}

/** `isthmus status`. Exit codes: 0 every process answered, 1 one did not, 64 bad usage. */
export function command(): Command {
  return new Command('isthmus status')
    .description('what a cluster exposes and why, what it imports, and what it awaits')
    .option(
      '--admin <host:port>',
      `admin port of a discovery, gateway or sidecar (may be repeated; default ${DEFAULT_ADMIN})`,
      (value: string, previous: readonly string[]) => [...previous, value],
      [],
    )
    .option('--state <file>', 'the file of isthmus demo --state: asks every process in it')
    .option('-o, --output <form>', 'table or json', 'table')
    .action(async (options: StatusOptions) => {
      process.exitCode = await status(options)
    })
}

async function status(options: StatusOptions): Promise<number> {
  const usage = (message: string) => {
    process.stderr.write(`isthmus status: ${message}\n`)
    return EXIT_USAGE
  }
  const { admin, state: path, output } = options
  if (output !== 'table' && output !== 'json')
    return usage(`--output: found "${output}", expected table or json`)
  const wrong = admin.find((address) => parseHostPort(address) === undefined)
  if (wrong !== undefined) return usage(`--admin: found "${wrong}", expected host:port`)
  const state = path === undefined ? undefined : readState(path)
  if (state?.ok === false) return usage(`--state ${state.error}`)
  const fallback = state === undefined && admin.length === 0 ? [DEFAULT_ADMIN] : []
  const asked = [
    ...(state?.value ?? []).flatMap(processesOf),
    ...[...admin, ...fallback].map((address) => ({ name: address, admin: address })),
  ]
  const answers = await Promise.all(asked.map(ask))
  process.stdout.write(output === 'json' ? `${JSON.stringify(answers, null, 2)}\n` : formatAnswers(answers))
  return answers.every((answer) => answer.error === undefined) ? 0 : 1
}

function processesOf({ id, discovery, gateway, sidecar }: StateCluster): Asked[] {
  return Object.entries({ discovery, gateway, sidecar }).flatMap(([role, admin]) =>
    admin === undefined ? [] : [{ name: `${id} ${role}`, admin }],
  )
}

async function ask(asked: Asked): Promise<Answer> {
  const reply = await requestJson(asked.admin, '/status')
  return reply.ok ? { ...asked, status: reply.value } : { ...asked, error: reply.error }
}

function formatAnswers(answers: readonly Answer[]): string {
  const blocks = answers.map(({ name, admin, status, error }) => {
    const title = name === admin ? name : `${name} (${admin})`
    return [
      title,
      '='.repeat(title.length),
      ...(error === undefined ? formatStatus(status) : [`  ✗ ${error}`]),
    ].join('\n')
  })
  return `${blocks.join('\n\n')}\n`
}
