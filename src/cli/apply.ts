import { Command } from 'commander'
import {
  collect,
  EXIT_USAGE,
  openStore,
  processTerminal,
  readGiven,
  type StoreOptions,
  sayProblems,
  shortName,
  storeOptionsOf,
  type Terminal,
  withStoreOptions,
} from './object-command.ts'

export interface ApplyOptions extends StoreOptions {
  readonly filename: readonly string[]
}

export function command(): Command {
  const apply = new Command('isthmus apply')
    .description('Create or update objects, by what identifies them, in a directory of YAML.')
    .requiredOption(
      '-f, --filename <file>',
      'file, directory or - for standard input; may be repeated',
      collect,
    )
  return withStoreOptions(apply).action(async () => {
    process.exitCode = await runApply(
      { ...apply.opts<Omit<ApplyOptions, keyof StoreOptions>>(), ...storeOptionsOf(apply) },
      processTerminal,
    )
  })
}

/**
 * Applies all that is given, or nothing when something in it is wrong. Returns the exit code: 0; 64 when the input is wrong;
 * 1 when something could not be written.
 */
export async function runApply(options: ApplyOptions, terminal: Terminal): Promise<number> {
  const { objects, problems } = await readGiven(options.filename, options, terminal)
  sayProblems(problems, terminal, 'error')
  if (problems.length > 0) return EXIT_USAGE
  if (objects.length === 0) {
    terminal.err('error: no objects to apply\n')
    return EXIT_USAGE
  }
  const store = await openStore(options, terminal)
  if (store === undefined) return EXIT_USAGE
  let failed = false
  for (const { object, doc } of objects) {
    const applied = await store.apply(doc)
    if (applied.ok) terminal.out(`${shortName(object)} ${applied.value}\n`)
    else sayProblems([applied.error], terminal, 'error')
    failed ||= !applied.ok
  }
  return failed ? 1 : 0
}
