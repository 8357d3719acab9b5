import { readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { Command, Option } from 'commander'
import { type Ca, createCa } from '../identity/ca.ts'
import { loadCa, saveCa, writeCredential } from '../identity/ca-folder.ts'
import { importCacerts, importPkcs12 } from '../identity/ca-import.ts'
import { describeCertificates } from '../identity/describe.ts'
import { formatLifetime, parseLifetime } from '../identity/lifetime.ts'
import { formatSpiffeBundleMap } from '../identity/spiffe-bundle.ts'
import { parseSpiffeId, parseWorkload, trustDomainError, workloadId } from '../identity/spiffe-id.ts'
import { TrustBundle } from '../identity/trust-bundle.ts'
import { formatProblem, type Problem, type Result } from '../lib/result.ts'

/** Bad usage or configuration, as in sysexits.h. */
const EXIT_USAGE = 64

/** `isthmus certs`: certificates for development and tests, and the way in for a CA that exists already. */
export function command(): Command {
  const certs = verb('isthmus certs').description('certificates for development, tests and import')
  certs.addCommand(initCommand()).addCommand(issueCommand()).addCommand(importCommand())
  certs.addCommand(showCommand()).addCommand(bundleCommand()).addCommand(bundleMapCommand())
  return certs
}

function initCommand(): Command {
  return verb('init')
    .description('make a CA: one self-signed root and an issuing intermediate, EC P-256')
    .addOption(trustDomainOption())
    .option(
      '--parent <folder>',
      'a CA made by "init" whose root signs the intermediate, for clusters with one root',
    )
    .requiredOption('--dir <folder>', 'where the CA is written; must not hold one already')
    .option('--root-lifetime <time>', 'for example 3650d', '3650d')
    .option('--intermediate-lifetime <time>', 'for example 365d', '365d')
    .action((options: InitOptions) => report(() => init(options)))
}

interface InitOptions {
  readonly trustDomain: string
  readonly dir: string
  readonly parent?: string
  readonly rootLifetime: string
  readonly intermediateLifetime: string
}

async function init(options: InitOptions): Promise<void> {
  const { trustDomain, dir } = options
  checkTrustDomain(trustDomain)
  const rootLifetimeMs = lifetime('--root-lifetime', options.rootLifetime)
  const intermediateLifetimeMs = lifetime('--intermediate-lifetime', options.intermediateLifetime)
  await refuseExistingCa(dir)
  const parent = options.parent === undefined ? undefined : orUsage(await loadCa(options.parent))
  if (parent !== undefined && parent.rootKeyPem === undefined)
    throw new Usage(`--parent: ${options.parent} has no root-key.pem, which signs the intermediate`)
  const lifetimes = { rootLifetimeMs, intermediateLifetimeMs }
  const ca = await createCa({ trustDomain, ...lifetimes, ...(parent !== undefined && { parent }) })
  await saveCa(ca, dir)
  say(`CA of the trust domain ${trustDomain} written to ${dir}`)
  if (parent === undefined) say(`  root-key.pem signs nothing but intermediates: move it to a safe place`)
  else say(`  its root is that of ${options.parent}`)
}

function issueCommand(): Command {
  return verb('issue')
    .description('issue an SVID: tls.crt, tls.key and ca.crt')
    .requiredOption('--ca <folder>', 'a CA made by "init" or "import"')
    .option('--namespace <name>', 'namespace of the workload, with --service-account')
    .option('--service-account <name>', 'service account of the workload, with --namespace')
    .addOption(new Option('--id <uri>', 'the whole SPIFFE id').conflicts(['namespace', 'serviceAccount']))
    .requiredOption('--out <folder>', 'where the files are written; a credential there is replaced')
    .option('--lifetime <time>', 'for example 24h; cut to the end of the issuing CA', '24h')
    .option('--dns <name...>', 'further DNS names in the certificate')
    .action((options: IssueFlags) => report(() => issue(options)))
}

interface IssueFlags {
  readonly ca: string
  readonly namespace?: string
  readonly serviceAccount?: string
  readonly id?: string
  readonly out: string
  readonly lifetime: string
  readonly dns?: readonly string[]
}

async function issue(flags: IssueFlags): Promise<void> {
  const lifetimeMs = lifetime('--lifetime', flags.lifetime)
  const ca = orUsage(await loadCa(flags.ca))
  const id = issuedId(flags, ca)
  if (ca.notAfterMs <= Date.now())
    throw new Failure(`the issuing CA in ${flags.ca} has expired; make or import another`)
  const issued = await ca.issue({ id, lifetimeMs, ...(flags.dns && { dnsNames: flags.dns }) })
  await writeCredential(flags.out, { ...issued, bundlePem: ca.bundlePem })
  const shortest = Math.min(lifetimeMs, ca.notAfterMs - Date.now())
  say(`${id}\n  tls.crt, tls.key, ca.crt written to ${flags.out}; good for ${formatLifetime(shortest)}`)
}

function issuedId({ id, namespace, serviceAccount }: IssueFlags, ca: Ca): string {
  if (id === undefined && (namespace === undefined || serviceAccount === undefined)) {
    throw new Usage('give --namespace and --service-account, or --id')
  }
  const text = id ?? workloadId(ca.trustDomain, namespace ?? '', serviceAccount ?? '')
  const parsed = parseSpiffeId(text)
  if (!parsed.ok) throw new Usage(`"${text}" is no SPIFFE id: ${parsed.error}`)
  if (parsed.value.path === '') throw new Usage(`"${text}" names no workload`)
  if (id === undefined && parseWorkload(parsed.value) === undefined) {
    throw new Usage('--namespace and --service-account must be plain names')
  }
  if (parsed.value.trustDomain !== ca.trustDomain) {
    throw new Usage(`"${text}" is not in the trust domain of this CA, ${ca.trustDomain}`)
  }
  return text
}

function importCommand(): Command {
  return verb('import')
    .description("take over a CA: the folder of Istio's cacerts Secret, or a PKCS#12 file; RSA or EC")
    .addOption(trustDomainOption())
    .addOption(
      new Option(
        '--cacerts <folder>',
        'holds ca-cert.pem, ca-key.pem, root-cert.pem, cert-chain.pem',
      ).conflicts('pkcs12'),
    )
    .option('--pkcs12 <file>', 'an RSA key with its certificate and chain')
    .option('--password-file <file>', 'the password of the PKCS#12 file; default: an empty one')
    .requiredOption('--out <folder>', 'where the CA is written; must not hold one already')
    .action((options: ImportFlags) => report(() => importCa(options)))
}

interface ImportFlags {
  readonly trustDomain: string
  readonly cacerts?: string
  readonly pkcs12?: string
  readonly passwordFile?: string
  readonly out: string
}

async function importCa(flags: ImportFlags): Promise<void> {
  const { trustDomain, cacerts, pkcs12, passwordFile, out } = flags
  checkTrustDomain(trustDomain)
  await refuseExistingCa(out)
  const ca = orUsage(await readImport(trustDomain, cacerts, pkcs12, passwordFile))
  await saveCa(ca, out)
  say(`CA of the trust domain ${trustDomain} taken over into ${out}`)
  say(`  the issuing CA is good for ${formatLifetime(ca.notAfterMs - Date.now())}`)
}

async function readImport(
  trustDomain: string,
  cacerts: string | undefined,
  pkcs12: string | undefined,
  passwordFile: string | undefined,
): Promise<Result<Ca, Problem>> {
  if (cacerts !== undefined) return importCacerts(cacerts, trustDomain)
  if (pkcs12 === undefined) throw new Usage('give --cacerts or --pkcs12')
  const password =
    passwordFile === undefined ? '' : (await readFile(passwordFile, 'utf8')).replace(/\r?\n$/, '')
  return importPkcs12(await readFile(pkcs12), password, trustDomain, pkcs12)
}

function showCommand(): Command {
  return verb('show')
    .description('print the certificates of a file or folder: id, issuer, days left')
    .argument('<path>', 'a PEM file, or a folder of .pem and .crt files')
    .action((path: string) => report(() => show(path)))
}

async function show(path: string): Promise<void> {
  const files = (await stat(path)).isDirectory()
    ? (await readdir(path))
        .filter((name) => /\.(pem|crt)$/.test(name) && !/key/.test(name))
        .map((name) => join(path, name))
    : [path]
  if (files.length === 0) throw new Failure(`${path} holds no .pem or .crt file`)
  let bad = false
  for (const file of files.sort()) {
    const text = describeCertificates(await readFile(file, 'utf8'), Date.now())
    say(`${file}\n${text.ok ? text.value : `  ${text.error}`}`)
    bad ||= !text.ok
  }
  if (bad) process.exitCode = 1
}

function bundleCommand(): Command {
  return verb('bundle')
    .description("print a CA's roots and intermediates in PEM, for its peers")
    .requiredOption('--ca <folder>', 'a CA made by "init" or "import"')
    .action(({ ca }: { readonly ca: string }) =>
      report(async () => {
        process.stdout.write(orUsage(await loadCa(ca)).bundlePem)
      }),
    )
}

function bundleMapCommand(): Command {
  return verb('bundle-map')
    .description('print bundles as a SPIFFE bundle map, which gRPC clients verify gateways by')
    .argument('<trust-domain=file...>', 'for example cluster-1.example=cluster-1.pem')
    .action((args: readonly string[]) =>
      report(async () => say(formatSpiffeBundleMap(await Promise.all(args.map(readBundle))))),
    )
}

async function readBundle(arg: string): Promise<TrustBundle> {
  const equals = arg.indexOf('=')
  if (equals < 0) throw new Usage(`"${arg}": expected TRUST-DOMAIN=FILE`)
  const file = arg.slice(equals + 1)
  return orUsage(TrustBundle.parse(arg.slice(0, equals), await readFile(file, 'utf8'), file))
}

/** Commander ends a wrong command line with 1; ours is 64, so that scripts can tell it from a failure. */
function verb(name: string): Command {
  return new Command(name).exitOverride(({ exitCode }) => process.exit(exitCode === 0 ? 0 : EXIT_USAGE))
}

function trustDomainOption(): Option {
  return new Option('--trust-domain <name>', 'for example cluster-1.example')
    .env('ISTHMUS_TRUST_DOMAIN')
    .makeOptionMandatory()
}

/** Something the user can mend in his command or files. */
class Usage extends Error {}
/** Something that is as it is. */
class Failure extends Error {}

/** Runs an action; what a person can understand is one line on standard error and an exit code, a bug stays a stack. */
async function report(action: () => Promise<void>): Promise<void> {
  try {
    await action()
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    const expected =
      error instanceof Usage || error instanceof Failure || (error instanceof Error && code !== undefined)
    if (!expected) throw error
    process.stderr.write(`isthmus certs: ${error.message}\n`)
    process.exitCode = error instanceof Usage ? EXIT_USAGE : 1
  }
}

function orUsage<T>(result: Result<T, Problem>): T {
  if (!result.ok) throw new Usage(formatProblem(result.error))
  return result.value
}

function checkTrustDomain(name: string): void {
  const error = trustDomainError(name)
  if (error !== undefined) throw new Usage(`--trust-domain "${name}": ${error}`)
}

function lifetime(flag: string, text: string): number {
  const parsed = parseLifetime(text)
  if (!parsed.ok) throw new Usage(`${flag}: ${parsed.error}`)
  return parsed.value
}

/** A CA's key that is overwritten is gone, and with it everything that it signed. */
async function refuseExistingCa(folder: string): Promise<void> {
  for (const name of ['ca-key.pem', 'root-key.pem', 'ca-cert.pem']) {
    const found = await stat(join(folder, name)).catch(() => undefined)
    if (found !== undefined)
      throw new Usage(`${join(folder, name)} exists already; remove it or choose another folder`)
  }
}

function say(text: string): void {
  process.stdout.write(`${text}\n`)
}
