import { Command, InvalidArgumentError } from 'commander'
import { insideNetns, namespacesUnavailable, runInNamespaces } from './demo/netns.ts'
import { runDemo } from './demo/run.ts'

interface DemoOptions {
  readonly once?: boolean
  readonly netns?: boolean
  readonly story: boolean
  readonly state?: string
  readonly loopback?: string
  readonly machine?: string
}

/** `isthmus demo`, what `npm start` runs. Exit codes: 0 every step came true (or it was ended by the user), 1 one did not. */
export function command(): Command {
  return new Command('isthmus demo')
    .description('two clusters on this machine, from plain YAML: the story as it happens, then yours to edit')
    .option('--once', 'end after the story; exit code 0 only if every step came true')
    .option(
      '--netns',
      'each cluster in its own network namespace with its own resolv.conf (Linux; no root needed)',
    )
    .option('--no-story', 'only set up what the story ends with')
    .option(
      '--state <file>',
      'once everything serves, write what runs where to this file (JSON), again at each change',
    )
    .option(
      '--loopback <127.X>',
      'use the addresses 127.X.0.0/16 (default: a range that no other demo has)',
      parseLoopback,
    )
    .addOption(new Command().createOption('--machine <file>', 'play one cluster’s machine').hideHelp())
    .action(async (options: DemoOptions) => {
      if (options.machine !== undefined) {
        // Only the machine needs the object store: the demo itself starts quicker without.
        const { runMachine } = await import('./demo/machine-main.ts')
        return runMachine(options.machine)
      }
      process.exitCode = await demo(options)
    })
}

async function demo(options: DemoOptions): Promise<number> {
  const { once = false, netns = false, story, state, loopback } = options
  if (!netns || insideNetns()) process.exit(await runDemo({ once, netns, story, state, loopback }))
  const why = namespacesUnavailable()
  if (why === undefined) return runInNamespaces()
  process.stderr.write(
    `isthmus demo --netns: this machine does not let us make namespaces (${why}); run it without --netns\n`,
  )
  return 1
}

function parseLoopback(text: string): string {
  const range = Number(/^127\.(\d{1,3})$/.exec(text)?.[1])
  if (!(range >= 1 && range <= 254)) throw new InvalidArgumentError('expected for example 127.20')
  return text
}
