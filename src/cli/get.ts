import { Command, Option } from 'commander'
import { stringify } from 'yaml'
import type { DirectoryStore } from '../objects/directory-store.ts'
import type { KindInfo } from '../objects/kinds.ts'
import type { KubeObject } from '../objects/types.ts'
import { addressOf, formatTable, tableOf } from './object-columns.ts'
import {
  EXIT_USAGE,
  findKindWord,
  isNamed,
  openStore,
  processTerminal,
  type StoreOptions,
  sayProblems,
  shortName,
  storeOptionsOf,
  type Terminal,
  withStoreOptions,
} from './object-command.ts'

export interface GetOptions extends StoreOptions {
  readonly namespace?: string
  readonly output: 'table' | 'yaml' | 'json' | 'name'
}

export function command(): Command {
  const get = new Command('isthmus get')
    .description('Show objects of a directory of YAML with their status, generated ones included.')
    .argument('<kind>', 'kind, plural or short name: serviceentries, se, svc, igw, …')
    .argument('[name]', 'name of the object')
    .option('-n, --namespace <namespace>', 'only in this namespace (default: in all)')
    .option('-A, --all-namespaces', 'in all namespaces')
    .addOption(
      new Option('-o, --output <format>', 'how to print')
        .choices(['table', 'yaml', 'json', 'name'])
        .default('table'),
    )
  return withStoreOptions(get).action(async (kind: string, name?: string) => {
    process.exitCode = await runGet(
      kind,
      name,
      { ...get.opts<Omit<GetOptions, keyof StoreOptions>>(), ...storeOptionsOf(get) },
      processTerminal,
    )
  })
}

/** Returns the exit code: 0; 1 when the object named is not there; 64 on bad input. */
export async function runGet(
  kindWord: string,
  name: string | undefined,
  options: GetOptions,
  terminal: Terminal,
): Promise<number> {
  const info = findKindWord(kindWord, terminal)
  if (info === undefined) return EXIT_USAGE
  const store = await openStore(options, terminal)
  if (store === undefined) return EXIT_USAGE
  // What is broken is not in the list: who looks for it must learn why.
  sayProblems(store.problems(), terminal, 'warning')
  const { namespace } = options
  const all: readonly KubeObject[] = store.list(info.kind)
  const found = all.filter((object) =>
    name === undefined
      ? namespace === undefined || object.metadata.namespace === '' || object.metadata.namespace === namespace
      : isNamed(object, name, namespace),
  )
  if (found.length > 0 || (options.output !== 'table' && name === undefined)) {
    terminal.out(print(info, found, name !== undefined, options, store))
    return 0
  }
  const where = namespace === undefined || info.scope !== 'namespaced' ? '' : ` in namespace ${namespace}`
  terminal.err(
    name === undefined ? `No ${info.plural} found${where}.\n` : `error: no ${info.kind} "${name}"${where}\n`,
  )
  return name === undefined ? 0 : 1
}

function print(
  { kind }: KindInfo,
  objects: readonly KubeObject[],
  byName: boolean,
  { output }: GetOptions,
  store: DirectoryStore,
): string {
  if (output === 'name') return objects.map((object) => `${shortName(object)}\n`).join('')
  if (output === 'table')
    return formatTable(
      tableOf(kind, objects, { gatewayAddress: (gateway) => gatewayAddress(gateway, store) }),
    )
  const [only] = objects
  const whole =
    byName && objects.length === 1
      ? only?.raw
      : { apiVersion: 'v1', kind: 'List', items: objects.map(({ raw }) => raw) }
  if (output === 'json') return `${JSON.stringify(whole, null, 2)}\n`
  return stringify(whole, { indentSeq: false, lineWidth: 0, aliasDuplicateObjects: false })
}

/** Of the Service that has the gateway's name. */
function gatewayAddress(gateway: KubeObject, store: DirectoryStore): string {
  const { name, namespace } = gateway.metadata
  const service = store
    .list('Service')
    .find(({ metadata }) => metadata.name === name && metadata.namespace === namespace)
  const annotation = service?.metadata.annotations['xcp.tetrate.io/cluster-external-addresses'] ?? ''
  return annotation !== '' ? annotation : (service?.loadBalancer ?? []).map(addressOf).join(',')
}
