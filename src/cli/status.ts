import { Command } from 'commander'
import { type Answer, type AskedOptions, askAll, readAsked, withAskedOptions } from './asked.ts'
import { formatStatus } from './status-text.ts'

/** Bad usage or configuration, as in sysexits.h. */
const EXIT_USAGE = 64

/** `isthmus status`. Exit codes: 0 every process answered, 1 one did not, 64 bad usage. */
export function command(): Command {
  const status = new Command('isthmus status').description(
    'what a cluster exposes and why, what it imports, what it awaits, and how far each client is',
  )
  return withAskedOptions(status, 'a discovery, gateway or sidecar').action(async (options: AskedOptions) => {
    process.exitCode = await run(options)
  })
}

async function run(options: AskedOptions): Promise<number> {
  const asked = readAsked(options, ['discovery', 'gateway', 'sidecar'])
  if (!asked.ok) {
    process.stderr.write(`isthmus status: ${asked.error}\n`)
    return EXIT_USAGE
  }
  const answers = await askAll(asked.value, '/status')
  const json = answers.map(({ value, ...answer }) =>
    value === undefined ? answer : { ...answer, status: value },
  )
  process.stdout.write(
    options.output === 'json' ? `${JSON.stringify(json, null, 2)}\n` : formatAnswers(answers),
  )
  return answers.every((answer) => answer.error === undefined) ? 0 : 1
}

function formatAnswers(answers: readonly Answer[]): string {
  const blocks = answers.map(({ name, admin, value, error }) => {
    const title = name === admin ? name : `${name} (${admin})`
    return [
      title,
      '='.repeat(title.length),
      ...(error === undefined ? formatStatus(value) : [`  ✗ ${error}`]),
    ].join('\n')
  })
  return `${blocks.join('\n\n')}\n`
}
