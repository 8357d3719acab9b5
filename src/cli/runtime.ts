import { spawnSync } from 'node:child_process'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fail, ok, type Result } from '../lib/result.ts'

/** The one version of Bun that the suites have been run with: that of the platform packages in package.json. */
export const BUN_VERSION = '1.4.5'

export type RuntimeChoice = 'node' | 'bun' | 'auto'

/** How a worker is run: the program, and what stands before the entry file. */
export interface Runtime {
  readonly name: 'node' | 'bun'
  readonly file: string
  readonly argv: readonly string[]
  /** What its environment has besides ours. */
  readonly env: Readonly<Record<string, string>>
}

/**
 * Bun without the last of its compilers (FTL). What a proxy runs is thin and calls native code, which FTL makes no faster; but it works on
 * it for the first half minute of traffic, at a tenth to a fifth of the worker's CPU (decision 0034). Whoever sets it, decides.
 */
const BUN_ENV = { BUN_JSC_useFTLJIT: process.env['BUN_JSC_useFTLJIT'] ?? '0' }

/**
 * Node's young generation in a worker, MiB for each half. V8 lets it grow to 16 and more while many connections are opened, and then copies
 * what lives in it at one go: 25 to 75 ms without a byte for anybody. What is small is collected more often, and never for long
 * (decision 0032).
 */
const NODE_WORKER_FLAGS: readonly string[] = ['--max-semi-space-size=2']

/**
 * The runtime of the workers. `auto` is Bun where the exact version is installed and starts, else Node. The error, for `bun` alone,
 * is one sentence that names every place that was looked at.
 */
export function findRuntime(choice: RuntimeChoice): Result<Runtime, string> {
  const node: Runtime = {
    name: 'node',
    file: process.execPath,
    argv: [...NODE_WORKER_FLAGS, ...process.execArgv],
    env: {},
  }
  if (choice === 'node') return ok(node)
  const bun = findBun()
  if (bun.ok || choice === 'bun') return bun
  return ok(node)
}

function findBun(): Result<Runtime, string> {
  const tried: string[] = []
  for (const file of candidates()) {
    const found = versionOf(file)
    if (found === BUN_VERSION) return ok({ name: 'bun', file, argv: [], env: BUN_ENV })
    tried.push(`${file} ${found}`)
  }
  return fail(`Bun ${BUN_VERSION} is not here: ${tried.join('; ')}`)
}

/** `ISTHMUS_BUN` alone where it is set; else the platform package, then what the PATH has. */
function candidates(): string[] {
  const given = process.env['ISTHMUS_BUN'] ?? ''
  if (given !== '') return [given]
  const name = `@oven/bun-${process.platform}-${process.arch === 'arm64' ? 'aarch64' : process.arch}`
  try {
    const manifest = createRequire(import.meta.url).resolve(`${name}/package.json`)
    return [join(dirname(manifest), 'bin', 'bun'), 'bun']
  } catch {
    return ['bun']
  }
}

/** Its version, or why it has none: one that does not fit this machine ends with a signal, for want of AVX2 for example. */
function versionOf(file: string): string {
  const { error, status, signal, stdout } = spawnSync(file, ['--version'], {
    encoding: 'utf8',
    timeout: 10_000,
  })
  if (error !== undefined) return `cannot be run (${(error as NodeJS.ErrnoException).code ?? error.message})`
  if (status !== 0) return `cannot be run (${signal ?? `exit code ${status}`})`
  return stdout.trim()
}
