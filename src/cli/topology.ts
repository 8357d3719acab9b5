import { Command } from 'commander'
import type { Topology } from '../discovery/topology.ts'
import { type Answer, type AskedOptions, askAll, readAsked, withAskedOptions } from './asked.ts'
import { formatTopology } from './topology-text.ts'

/** Bad usage or configuration, as in sysexits.h. */
const EXIT_USAGE = 64

/** `isthmus topology`. Exit codes: 0 every discovery server answered, 1 one did not, 64 bad usage. */
export function command(): Command {
  const topology = new Command('isthmus topology').description(
    'clusters, networks, gateways, who reaches whom, and what is exposed to whom',
  )
  return withAskedOptions(topology, 'a discovery').action(async (options: AskedOptions) => {
    process.exitCode = await run(options)
  })
}

async function run(options: AskedOptions): Promise<number> {
  const asked = readAsked(options, ['discovery'])
  if (!asked.ok) {
    process.stderr.write(`isthmus topology: ${asked.error}\n`)
    return EXIT_USAGE
  }
  const answers = await askAll(asked.value, '/topology')
  const said = answers.flatMap(({ value }) => (isTopology(value) ? [value] : []))
  const silent = answers.filter(({ value }) => !isTopology(value))
  process.stdout.write(
    options.output === 'json'
      ? `${JSON.stringify({ said, silent: silent.map(silence) }, null, 2)}\n`
      : `${[...formatTopology(said), ...silent.map((answer) => `✗ ${answer.name}: ${silence(answer).error}`)].join('\n')}\n`,
  )
  return silent.length === 0 ? 0 : 1
}

function isTopology(value: unknown): value is Topology {
  return typeof value === 'object' && value !== null && 'calls' in value && 'exposed' in value
}

function silence({ name, admin, error }: Answer) {
  return { name, admin, error: error ?? 'is no discovery server: it answers with something else' }
}
