// What `apply`, `delete` and `get` share: their options, the manifests they are given, the store they work on.
import { readFile, stat } from 'node:fs/promises'
import { resolve } from 'node:path'
import { type Command, InvalidArgumentError } from 'commander'
import { silentLogger } from '../lib/log.ts'
import { formatProblem, type Problem, problem } from '../lib/result.ts'
import { errorCode } from '../objects/atomic-file.ts'
import { DirectoryStore } from '../objects/directory-store.ts'
import { lookInto } from '../objects/folder-look.ts'
import { type KindInfo, kindByWord } from '../objects/kinds.ts'
import { parseManifestFile } from '../objects/manifest-file.ts'
import { type KubeObject, refKey, refOf } from '../objects/types.ts'

/** As sysexits.h has it: bad usage, bad input. */
export const EXIT_USAGE = 64

/** The world around a command, so that tests can be it. */
export interface Terminal {
  readonly env: Readonly<Record<string, string | undefined>>
  stdin(): Promise<string>
  out(text: string): void
  err(text: string): void
}

export const processTerminal: Terminal = {
  env: process.env,
  async stdin() {
    const chunks: Buffer[] = []
    for await (const chunk of process.stdin) chunks.push(chunk as Buffer)
    return Buffer.concat(chunks).toString('utf8')
  },
  out: (text) => void process.stdout.write(text),
  err: (text) => void process.stderr.write(text),
}

export interface StoreOptions {
  readonly dir: readonly string[]
  readonly generated?: string
  readonly set: Readonly<Record<string, string>>
}

/** Adds `--dir`, `--generated` and `--set`; bad usage exits with 64. */
export function withStoreOptions(command: Command): Command {
  return command
    .option('--dir <directory>', 'directory of YAML; may be repeated (or ISTHMUS_DIR)', collect)
    .option(
      '--generated <directory>',
      'where discovery writes objects, if it was told so (or ISTHMUS_GENERATED)',
    )
    .option(
      '--set <name=value>',
      'value for a placeholder in the YAML; else the environment has it',
      collectPair,
    )
    .exitOverride(({ exitCode }) => process.exit(exitCode === 0 ? 0 : EXIT_USAGE))
}

/** The options of a command with the environment's in the place of those that are missing. */
export function storeOptionsOf(command: Command): StoreOptions {
  const { dir, generated, set } = command.opts<Partial<StoreOptions>>()
  const fallback = process.env['ISTHMUS_DIR'] ?? ''
  if (dir === undefined && fallback === '')
    command.error("error: required option '--dir <directory>' is missing")
  const folder = generated ?? process.env['ISTHMUS_GENERATED']
  return { dir: dir ?? [fallback], set: set ?? {}, ...(folder === undefined ? {} : { generated: folder }) }
}

/** For options that may be repeated. */
export function collect(value: string, before: readonly string[] = []): string[] {
  return [...before, value]
}

/** For `--set`. */
export function collectPair(
  value: string,
  before: Readonly<Record<string, string>> = {},
): Record<string, string> {
  const at = value.indexOf('=')
  if (at < 1) throw new InvalidArgumentError('expected NAME=value.')
  return { ...before, [value.slice(0, at)]: value.slice(at + 1) }
}

/** The store over `--dir`, read once. New objects go into the first of the folders, for the user to see. */
export async function openStore(
  options: StoreOptions,
  terminal: Terminal,
): Promise<DirectoryStore | undefined> {
  for (const folder of options.dir) {
    const found = await stat(folder).catch(() => undefined)
    if (found?.isDirectory() === true) continue
    terminal.err(`error: --dir ${folder}: there is no such directory\n`)
    return undefined
  }
  const store = new DirectoryStore({
    directories: options.dir,
    generated: options.generated,
    newObjects: options.dir[0],
    substitutions: { ...terminal.env, ...options.set },
    logger: silentLogger,
  })
  await store.load()
  return store
}

export interface GivenObject {
  readonly object: KubeObject
  readonly doc: Readonly<Record<string, unknown>>
}

/** Every object in the files, directories or standard input (`-`) given, with what is wrong in them. */
export async function readGiven(
  sources: readonly string[],
  options: StoreOptions,
  terminal: Terminal,
): Promise<{ objects: GivenObject[]; problems: Problem[] }> {
  const objects: GivenObject[] = []
  const problems: Problem[] = []
  const first = new Map<string, string>()
  for (const { label, text, wrong } of await readSources(sources, terminal)) {
    if (wrong !== undefined) problems.push(wrong)
    if (text === undefined) continue
    const entries = parseManifestFile(text, label, { ...terminal.env, ...options.set })
    if (!entries.ok) problems.push(entries.error)
    for (const { object, doc, source, problems: found } of entries.ok ? entries.value : []) {
      problems.push(...found)
      if (object === undefined) continue
      const key = refKey(refOf(object))
      const other = first.get(key)
      if (other !== undefined)
        problems.push(problem(`${source} ${key}`, 'metadata', `is given already in ${other}`))
      else objects.push({ object, doc })
      first.set(key, other ?? source)
    }
  }
  return { objects, problems }
}

interface Source {
  readonly label: string
  readonly text?: string
  readonly wrong?: Problem
}

async function readSources(sources: readonly string[], terminal: Terminal): Promise<Source[]> {
  const found: Source[] = []
  for (const source of sources) {
    if (source === '-') {
      found.push({ label: 'stdin', text: await terminal.stdin() })
      continue
    }
    const folder = await stat(source).then(
      (it) => it.isDirectory(),
      () => false,
    )
    const paths = folder ? [...(await lookInto(resolve(source))).files.keys()].sort() : [source]
    if (paths.length === 0)
      found.push({ label: source, wrong: problem(source, '', 'has no YAML or JSON files') })
    for (const path of paths) found.push(await readSource(path))
  }
  return found
}

async function readSource(label: string): Promise<Source> {
  try {
    return { label, text: await readFile(label, 'utf8') }
  } catch (error) {
    const code = errorCode(error)
    if (code === '') throw error
    return { label, wrong: problem(label, '', `cannot be read (${code})`) }
  }
}

/** The kind that a word means, or undefined after saying so. */
export function findKindWord(word: string, terminal: Terminal): KindInfo | undefined {
  const kind = kindByWord(word)
  if (kind === undefined) terminal.err(`error: there is no kind "${word}"\n`)
  return kind
}

/** Whether an object is the one that a command line names: `NAME`, or with what is above it: `acme/eng/ws/NAME`. */
export function isNamed(object: KubeObject, name: string, namespace: string | undefined): boolean {
  if (namespace !== undefined && object.metadata.namespace !== '' && object.metadata.namespace !== namespace)
    return false
  return object.metadata.name === name || refKey(refOf(object)) === `${object.kind}/${name}`
}

export function sayProblems(
  problems: readonly Problem[],
  terminal: Terminal,
  word: 'error' | 'warning',
): void {
  for (const found of problems) terminal.err(`${word}: ${formatProblem(found)}\n`)
}

/** `workspacesetting/bookinfo-ws-setting`. */
export function shortName(object: KubeObject): string {
  return `${object.kind.toLowerCase()}/${object.metadata.name}`
}
