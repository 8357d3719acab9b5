// Whom a command asks: the admin ports that it is given, or those in a state file of the demo.
import type { Command } from 'commander'
import { fail, ok, type Result } from '../lib/result.ts'
import { parseHostPort, requestJson } from './admin-request.ts'
import { readState, type StateCluster } from './state.ts'

export const DEFAULT_ADMIN = '127.0.0.1:15000'

export interface AskedOptions {
  readonly admin: readonly string[]
  readonly state?: string
  readonly output: string
}

/** One process that is asked. */
export interface Asked {
  readonly name: string
  readonly admin: string
}

/** What it said, or why it said nothing. */
export interface Answer extends Asked {
  readonly value?: unknown
  readonly error?: string
}

export type Role = 'discovery' | 'gateway' | 'sidecar'

/** Adds `--admin`, `--state` and `--output`; `whose` is for the help. */
export function withAskedOptions(command: Command, whose: string): Command {
  return command
    .option(
      '--admin <host:port>',
      `admin port of ${whose} (may be repeated; default ${DEFAULT_ADMIN})`,
      (value: string, previous: readonly string[]) => [...previous, value],
      [],
    )
    .option('--state <file>', 'the file of isthmus demo --state: asks every process in it')
    .option('-o, --output <form>', 'table or json', 'table')
}

/** Who is to be asked; of a state file the processes of these roles. The error is one line that names the option. */
export function readAsked(options: AskedOptions, roles: readonly Role[]): Result<readonly Asked[], string> {
  const { admin, state: path, output } = options
  if (output !== 'table' && output !== 'json')
    return fail(`--output: found "${output}", expected table or json`)
  const wrong = admin.find((address) => parseHostPort(address) === undefined)
  if (wrong !== undefined) return fail(`--admin: found "${wrong}", expected host:port`)
  const state = path === undefined ? undefined : readState(path)
  if (state?.ok === false) return fail(`--state ${state.error}`)
  const fallback = state === undefined && admin.length === 0 ? [DEFAULT_ADMIN] : []
  return ok([
    ...(state?.value ?? []).flatMap((cluster) => processesOf(cluster, roles)),
    ...[...admin, ...fallback].map((address) => ({ name: address, admin: address })),
  ])
}

/** The same question to all of them. */
export function askAll(asked: readonly Asked[], path: string): Promise<Answer[]> {
  return Promise.all(
    asked.map(async (one) => {
      const reply = await requestJson(one.admin, path)
      return reply.ok ? { ...one, value: reply.value } : { ...one, error: reply.error }
    }),
  )
}

function processesOf(cluster: StateCluster, roles: readonly Role[]): Asked[] {
  return roles.flatMap((role) => {
    const admin = cluster[role]
    return admin === undefined ? [] : [{ name: `${cluster.id} ${role}`, admin }]
  })
}
