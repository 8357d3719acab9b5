import { Command } from 'commander'
import { linkConflict, tokenManifest, writeLink } from '../discovery/link-objects.ts'
import {
  decodeToken,
  encodeToken,
  type LinkSide,
  type LinkToken,
  newSecret,
  readSide,
} from '../discovery/link-token.ts'
import { formatLifetime, parseLifetime } from '../identity/lifetime.ts'
import { formatProblem } from '../lib/result.ts'
import type { ObjectStore } from '../objects/store.ts'
import { parseHostPort, requestJson } from './admin-request.ts'
import { spendToken } from './link-call.ts'
import {
  collect,
  EXIT_USAGE,
  openStore,
  processTerminal,
  type StoreOptions,
  storeOptionsOf,
  type Terminal,
  withStoreOptions,
} from './object-command.ts'

const DEFAULT_ADMIN = '127.0.0.1:15000'
const TTL_MAX_MS = 7 * 24 * 3_600_000

interface AcceptOptions extends StoreOptions {
  readonly admin: string
  readonly address?: readonly string[]
}

interface CreateOptions extends AcceptOptions {
  readonly for?: string
  readonly ttl: string
  readonly adsAddress?: readonly string[]
  readonly linkAddress?: readonly string[]
}

/** `isthmus link create`, `isthmus link accept TOKEN`: two clusters that know nothing of each other become peers. */
export function command(): Command {
  const link = new Command('isthmus link')
    .description('link two clusters: create a token in the one, accept it in the other')
    .exitOverride(({ exitCode }) => process.exit(exitCode === 0 ? 0 : EXIT_USAGE))
  const admin = (verb: Command) =>
    withStoreOptions(verb).option(
      '--admin <host:port>',
      "admin port of this cluster's discovery",
      DEFAULT_ADMIN,
    )
  const create = admin(new Command('create'))
    .description('make a token; it is good for one link, and only its hash is kept')
    .option('--for <cluster>', 'the one cluster that may use it (default: any)')
    .option('--ttl <time>', 'how long it is good, for example 30m (at most 7d)', '1h')
    .option(
      '--address <host:port>',
      'gateway of this cluster as the other sees it; may be repeated (default: all)',
      collect,
    )
    .option('--ads-address <host:port>', 'discovery itself instead of a gateway; may be repeated', collect)
    .option(
      '--link-address <host:port>',
      'where discovery itself takes tokens (--link); may be repeated',
      collect,
    )
    .action(async () => {
      process.exitCode = await runCreate(
        { ...create.opts<CreateOptions>(), ...storeOptionsOf(create) },
        processTerminal,
      )
    })
  const accept = admin(new Command('accept'))
    .description('spend a token of another cluster: each side then knows the other')
    .argument('<token>', 'what "isthmus link create" printed, or - for standard input')
    .option(
      '--address <host:port>',
      'where the other cluster can dial this one (default: it cannot)',
      collect,
    )
    .action(async (token: string) => {
      const options = { ...accept.opts<AcceptOptions>(), ...storeOptionsOf(accept) }
      process.exitCode = await runAccept(token, options, processTerminal)
    })
  return link.addCommand(create).addCommand(accept)
}

/** What the discovery of this cluster says of it. */
interface OwnSide {
  readonly side: LinkSide
  /** `host:port` of its gateways, as other networks reach them. */
  readonly gateways: readonly string[]
}

/** Prints the token alone on standard output. Exit codes: 0; 64 bad usage; 1 when it cannot be made. */
export async function runCreate(options: CreateOptions, terminal: Terminal): Promise<number> {
  const say = (code: number, message: string) => refuse(terminal, 'create', code, message)
  const ttl = parseLifetime(options.ttl)
  if (!ttl.ok) return say(EXIT_USAGE, `--ttl: ${ttl.error}`)
  if (ttl.value > TTL_MAX_MS)
    return say(EXIT_USAGE, `--ttl: ${options.ttl}, at most ${formatLifetime(TTL_MAX_MS)}`)
  const wrong = wrongAddress(options)
  if (wrong !== undefined) return say(EXIT_USAGE, wrong)
  if ((options.adsAddress === undefined) !== (options.linkAddress === undefined))
    return say(EXIT_USAGE, '--ads-address and --link-address go together')
  const own = await ownSide(options.admin)
  if (typeof own === 'string') return say(1, own)
  const gateways = options.address ?? own.gateways
  const ads = options.adsAddress ?? gateways
  if (ads.length === 0)
    return say(1, 'no gateway has an address yet: say with --address where the other cluster reaches one')
  const store = await openStore(options, terminal)
  if (store === undefined) return EXIT_USAGE
  const { id, secret, hash } = newSecret()
  const expiresMs = Math.floor((Date.now() + ttl.value) / 1000) * 1000
  const whom = options.for ?? ''
  const applied = await store.apply(tokenManifest({ id, hash, expiresMs, for: whom, usedBy: '', usedAt: '' }))
  if (!applied.ok) return say(1, formatProblem(applied.error))
  const side = { ...own.side, adsAddress: ads.join(',') }
  terminal.out(
    `${encodeToken({ id, secret, expiresMs, for: whom, side, linkAddresses: options.linkAddress ?? gateways })}\n`,
  )
  const until = new Date(expiresMs).toISOString()
  terminal.err(
    `good for one link with ${whom === '' ? 'any cluster' : whom} until ${until}; there: isthmus link accept TOKEN\n`,
  )
  return 0
}

/** Exit codes: 0; 64 bad usage, a token that is not good among it; 1 when the other side, or the store, refuses. */
export async function runAccept(text: string, options: AcceptOptions, terminal: Terminal): Promise<number> {
  const say = (code: number, message: string) => refuse(terminal, 'accept', code, message)
  const wrong = wrongAddress(options)
  if (wrong !== undefined) return say(EXIT_USAGE, wrong)
  const token = decodeToken(text === '-' ? await terminal.stdin() : text)
  if (!token.ok) return say(EXIT_USAGE, token.error)
  const { expiresMs, for: whom } = token.value
  if (expiresMs <= Date.now())
    return say(
      1,
      `the token expired at ${new Date(expiresMs).toISOString()}: make another with "isthmus link create"`,
    )
  const own = await ownSide(options.admin)
  if (typeof own === 'string') return say(1, own)
  if (whom !== '' && whom !== own.side.cluster)
    return say(1, `the token is for ${whom}, this cluster is ${own.side.cluster}`)
  const store = await openStore(options, terminal)
  if (store === undefined) return EXIT_USAGE
  const conflict = linkConflict(store, token.value.side, own.side)
  if (conflict !== undefined) return say(1, conflict)
  const spent = await spendToken(token.value, { ...own.side, adsAddress: (options.address ?? []).join(',') })
  if (!spent.ok) return say(1, spent.error)
  return written(store, token.value, own.side.cluster, terminal)
}

async function written(
  store: ObjectStore,
  token: LinkToken,
  self: string,
  terminal: Terminal,
): Promise<number> {
  const { cluster } = token.side
  const result = await writeLink(store, token.side)
  if (!result.ok)
    return refuse(
      terminal,
      'accept',
      1,
      `${formatProblem(result.error)}; ${cluster} knows ${self} already: "isthmus unlink ${self}" there`,
    )
  for (const manifest of result.value) {
    const { kind, metadata } = manifest as { kind: string; metadata: { name: string } }
    terminal.out(`${kind.toLowerCase()}/${metadata.name} written\n`)
  }
  terminal.out(
    `${self} and ${cluster} are linked; who may call whom is for networkReachability of OrganizationSetting to say\n`,
  )
  return 0
}

/** One line, whatever it is. */
function refuse(terminal: Terminal, verb: string, code: number, message: string): number {
  terminal.err(`isthmus link ${verb}: ${message}\n`)
  return code
}

function wrongAddress(
  options: Partial<Pick<CreateOptions, 'address' | 'adsAddress' | 'linkAddress'>>,
): string | undefined {
  for (const [flag, values = []] of [
    ['address', options.address],
    ['ads-address', options.adsAddress],
    ['link-address', options.linkAddress],
  ] as const) {
    const wrong = values.find((value) => parseHostPort(value) === undefined)
    if (wrong !== undefined) return `--${flag}: found "${wrong}", expected host:port`
  }
  return undefined
}

async function ownSide(admin: string): Promise<OwnSide | string> {
  if (parseHostPort(admin) === undefined) return `--admin: found "${admin}", expected host:port`
  const reply = await requestJson(admin, '/link')
  if (!reply.ok) return reply.error
  const { side, gateways } = reply.value as { side?: unknown; gateways?: unknown }
  const read = readSide(side)
  if (!read.ok) return `http://${admin}/link: ${read.error}`
  return { side: read.value, gateways: Array.isArray(gateways) ? gateways.map(String) : [] }
}
