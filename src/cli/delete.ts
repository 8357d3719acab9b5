import { Command } from 'commander'
import type { DirectoryStore } from '../objects/directory-store.ts'
import { type KubeObject, type ObjectRef, refKey, refOf } from '../objects/types.ts'
import {
  collect,
  EXIT_USAGE,
  findKindWord,
  isNamed,
  openStore,
  processTerminal,
  readGiven,
  type StoreOptions,
  sayProblems,
  storeOptionsOf,
  type Terminal,
  withStoreOptions,
} from './object-command.ts'

export interface DeleteOptions extends StoreOptions {
  readonly filename?: readonly string[]
  readonly namespace?: string
  readonly ignoreNotFound?: boolean
}

export function command(): Command {
  const remove = new Command('isthmus delete')
    .description('Delete objects from a directory of YAML: those in -f, or one by kind and name.')
    .argument('[kind]', 'kind, plural or short name')
    .argument('[name]', 'name of the object')
    .option('-f, --filename <file>', 'file, directory or - for standard input; may be repeated', collect)
    .option('-n, --namespace <namespace>', 'namespace of the object, where its name alone does not tell')
    .option('--ignore-not-found', 'an object that is not there is no failure')
  return withStoreOptions(remove).action(async (kind?: string, name?: string) => {
    process.exitCode = await runDelete(
      kind,
      name,
      { ...remove.opts<Omit<DeleteOptions, keyof StoreOptions>>(), ...storeOptionsOf(remove) },
      processTerminal,
    )
  })
}

/** Returns the exit code: 0; 1 when an object was not there or could not be deleted; 64 on bad input. */
export async function runDelete(
  kindWord: string | undefined,
  name: string | undefined,
  options: DeleteOptions,
  terminal: Terminal,
): Promise<number> {
  const byFile = options.filename !== undefined
  if (byFile === (kindWord !== undefined) || (!byFile && name === undefined)) {
    terminal.err('error: expected either -f FILE or KIND NAME\n')
    return EXIT_USAGE
  }
  const store = await openStore(options, terminal)
  if (store === undefined) return EXIT_USAGE
  const refs = byFile
    ? await refsOfFiles(options, terminal)
    : refsByName(store, kindWord ?? '', name ?? '', options, terminal)
  if (refs === undefined) return EXIT_USAGE
  let exitCode = 0
  for (const ref of refs) exitCode = Math.max(exitCode, await deleteOne(store, ref, options, terminal))
  return exitCode
}

async function deleteOne(
  store: DirectoryStore,
  ref: ObjectRef,
  options: DeleteOptions,
  terminal: Terminal,
): Promise<number> {
  try {
    if (await store.delete(ref)) {
      terminal.out(`${ref.kind.toLowerCase()} "${ref.name}" deleted\n`)
      return 0
    }
  } catch (error) {
    terminal.err(`error: ${(error as Error).message}\n`)
    return 1
  }
  if (options.ignoreNotFound === true) return 0
  terminal.err(`error: ${refKey(ref)} is not there\n`)
  return 1
}

async function refsOfFiles(options: DeleteOptions, terminal: Terminal): Promise<ObjectRef[] | undefined> {
  const { objects, problems } = await readGiven(options.filename ?? [], options, terminal)
  sayProblems(problems, terminal, 'error')
  return problems.length > 0 ? undefined : objects.map(({ object }) => refOf(object))
}

function refsByName(
  store: DirectoryStore,
  kindWord: string,
  name: string,
  options: DeleteOptions,
  terminal: Terminal,
): ObjectRef[] | undefined {
  const info = findKindWord(kindWord, terminal)
  if (info === undefined) return undefined
  const all: readonly KubeObject[] = store.list(info.kind)
  const found = all.filter((object) => isNamed(object, name, options.namespace)).map(refOf)
  if (found.length > 1) {
    const keys = found.map((ref) => refKey(ref).slice(ref.kind.length + 1)).join(', ')
    terminal.err(`error: "${name}" is one of ${keys}: say which, with -n or by the whole name\n`)
    return undefined
  }
  const nowhere = {
    kind: info.kind,
    namespace: options.namespace ?? '',
    organization: '',
    tenant: '',
    workspace: '',
    name,
  }
  return found.length > 0 ? found : [nowhere]
}
