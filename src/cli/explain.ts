import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { Command } from 'commander'
import { type Credential, parseCredential } from '../identity/credential.ts'
import { TrustBundle, TrustBundles } from '../identity/trust-bundle.ts'
import { fail, formatProblem, ok, type Problem, type Result } from '../lib/result.ts'
import { parseHostPort } from './admin-request.ts'
import { type WalkedPath, type WalkInput, walk } from './explain-walk.ts'
import { readState, type StateCluster } from './state.ts'
import { textTable } from './text-table.ts'

/** Bad usage or configuration, as in sysexits.h. */
const EXIT_USAGE = 64

interface ExplainOptions {
  readonly state?: string
  readonly clientAdmin?: string
  readonly servingAdmin: readonly string[]
  readonly certs?: string
  readonly bundle: readonly string[]
  readonly output: string
}

/** Whom to ask and who to be. */
interface Sources {
  readonly clientAdmin: string
  readonly servings: WalkInput['servings']
  readonly credential: Credential
  readonly bundles: TrustBundles
}

const repeated = (value: string, previous: readonly string[]): string[] => [...previous, value]

/** `isthmus explain CLUSTER HOST:PORT`. Exit codes: 0 the call works, 1 it does not, 64 bad usage. */
export function command(): Command {
  return new Command('isthmus explain')
    .description('why a call from a cluster to HOST:PORT works or does not, hop by hop')
    .argument('<cluster>', 'the cluster that calls')
    .argument('<host:port>', 'what it calls, for example productpage.bookinfo:9080')
    .option('--state <file>', 'the file of isthmus demo --state')
    .option('--client-admin <host:port>', "admin port of the calling cluster's discovery")
    .option(
      '--serving-admin <host:port>',
      "admin port of a serving cluster's discovery (may be repeated)",
      repeated,
      [],
    )
    .option('--certs <folder>', 'tls.crt, tls.key and ca.crt of a workload of the calling cluster')
    .option(
      '--bundle <trust-domain=file>',
      'CA certificates of another trust domain (may be repeated)',
      repeated,
      [],
    )
    .option('-o, --output <form>', 'table or json', 'table')
    .action(async (cluster: string, target: string, options: ExplainOptions) => {
      process.exitCode = await explain(cluster, target, options)
    })
}

async function explain(cluster: string, target: string, options: ExplainOptions): Promise<number> {
  const usage = (message: string) => {
    process.stderr.write(`isthmus explain: ${message}\n`)
    return EXIT_USAGE
  }
  const at = parseHostPort(target)
  if (at === undefined)
    return usage(`<host:port>: found "${target}", expected for example productpage.bookinfo:9080`)
  if (options.output !== 'table' && options.output !== 'json')
    return usage(`--output: found "${options.output}", expected table or json`)
  const sources =
    options.state === undefined
      ? sourcesFromFlags(options)
      : sourcesFromState(options.state, cluster, options)
  if (!sources.ok) return usage(sources.error)
  const paths = await walk({ client: cluster, ...at, ...sources.value })
  const works = paths.some((path) => path.ok)
  if (options.output === 'json') {
    const report = {
      client: cluster,
      ...at,
      ok: works,
      broken: works ? null : (paths[0]?.broken ?? null),
      paths,
    }
    process.stdout.write(`${JSON.stringify(report, null, 2)}\n`)
  } else {
    process.stdout.write(`${formatPaths(cluster, target, paths)}\n`)
  }
  return works ? 0 : 1
}

function formatPaths(cluster: string, target: string, paths: readonly WalkedPath[]): string {
  const lines = paths.flatMap(({ serving, hops, broken, disagreement }) => {
    const rows = hops.map((hop) => [hop.ok ? '✓' : '✗', hop.hop, hop.where, hop.detail])
    const verdict =
      broken === null
        ? ['  the call works']
        : [
            `  broken at: ${broken.hop} (${broken.where})`,
            ...(broken.fix === '' ? [] : [`  change:    ${broken.fix}`]),
          ]
    const differ = disagreement === null ? [] : [`  note:      ${disagreement}`]
    return [`${cluster} → ${target} in ${serving}`, ...textTable(rows), ...verdict, ...differ, '']
  })
  return lines.join('\n').trimEnd()
}

function sourcesFromState(path: string, client: string, options: ExplainOptions): Result<Sources, string> {
  const state = readState(path)
  if (!state.ok) return fail(`--state ${state.error}`)
  const clusters = state.value
  const caller = clusters.find(({ id }) => id === client)
  if (caller === undefined)
    return fail(`<cluster>: found "${client}", expected one of ${clusters.map(({ id }) => id).join(', ')}`)
  if (caller.discovery === undefined)
    return fail(`--state ${path}: clusters.${client}.discovery.admin is missing`)
  const credential =
    options.certs === undefined ? callerCredential(caller, path) : readCredential(options.certs)
  if (!credential.ok) return credential
  const stated = clusters.flatMap(({ trustDomain, ca }) =>
    ca === undefined ? [] : [{ trustDomain, files: [ca.root, ca.cert] }],
  )
  const bundles = readBundles([...stated, ...bundleFlags(options, credential.value)])
  if (!bundles.ok) return bundles
  return ok({
    clientAdmin: caller.discovery,
    servings: clusters.flatMap(({ id, discovery }) =>
      id === client || discovery === undefined ? [] : [{ cluster: id, admin: discovery }],
    ),
    credential: credential.value,
    bundles: bundles.value,
  })
}

function sourcesFromFlags(options: ExplainOptions): Result<Sources, string> {
  const { clientAdmin, servingAdmin, certs } = options
  if (clientAdmin === undefined || servingAdmin.length === 0 || certs === undefined) {
    return fail('expected --state FILE, or --client-admin, --serving-admin and --certs together')
  }
  const wrong = [clientAdmin, ...servingAdmin].find((address) => parseHostPort(address) === undefined)
  if (wrong !== undefined) return fail(`found "${wrong}", expected host:port`)
  const credential = readCredential(certs)
  if (!credential.ok) return credential
  const bundles = readBundles(bundleFlags(options, credential.value))
  if (!bundles.ok) return bundles
  const servings = servingAdmin.map((admin) => ({ cluster: undefined, admin }))
  return ok({ clientAdmin, servings, credential: credential.value, bundles: bundles.value })
}

/** Somebody of the calling cluster: `sleep` where there is one. */
function callerCredential(caller: StateCluster, path: string): Result<Credential, string> {
  const identity = caller.identities.find(({ name }) => name === 'sleep') ?? caller.identities[0]
  if (identity === undefined)
    return fail(`--state ${path}: clusters.${caller.id}.identities is empty; give --certs`)
  return readCredentialFiles(identity.cert, identity.key, identity.cert)
}

const readCredential = (folder: string): Result<Credential, string> =>
  readCredentialFiles(join(folder, 'tls.crt'), join(folder, 'tls.key'), folder)

function readCredentialFiles(cert: string, key: string, object: string): Result<Credential, string> {
  try {
    return worded(parseCredential(readFileSync(cert, 'utf8'), readFileSync(key, 'utf8'), object))
  } catch (error) {
    return fail(error instanceof Error ? error.message : String(error))
  }
}

interface BundleFiles {
  readonly trustDomain: string
  readonly files: readonly string[]
}

function bundleFlags({ certs, bundle }: ExplainOptions, credential: Credential): BundleFiles[] {
  const own =
    certs === undefined ? [] : [{ trustDomain: credential.id.trustDomain, files: [join(certs, 'ca.crt')] }]
  const given = bundle.map((text) => {
    const cut = text.indexOf('=')
    return { trustDomain: text.slice(0, Math.max(0, cut)), files: [text.slice(cut + 1)] }
  })
  return [...own, ...given]
}

function readBundles(sources: readonly BundleFiles[]): Result<TrustBundles, string> {
  const bundles: TrustBundle[] = []
  for (const { trustDomain, files } of sources) {
    let pem: string
    try {
      pem = files.map((file) => readFileSync(file, 'utf8')).join('\n')
    } catch (error) {
      return fail(error instanceof Error ? error.message : String(error))
    }
    const bundle = worded(TrustBundle.parse(trustDomain, pem, files.join(' and ')))
    if (!bundle.ok) return bundle
    bundles.push(bundle.value)
  }
  return ok(new TrustBundles(bundles))
}

const worded = <T>(result: Result<T, Problem>): Result<T, string> =>
  result.ok ? result : fail(formatProblem(result.error))
