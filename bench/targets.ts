// What stands under load: our engine and the prototype, each on Node and on Bun, and the peers, each told the same job.
import { execFileSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import type { Readable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { findRuntime, type Runtime } from '../src/cli/runtime.ts'
import type { Job } from './job.ts'
import { ENVOY, HAPROXY, NGINX, type Peer } from './peer.ts'
import { end, lastWords, type Spawned, spawnLogged } from './spawn.ts'

const here = dirname(fileURLToPath(import.meta.url))

export interface TargetKind extends Peer {
  /** Another target that does the same with less; ours may cost so much more at most. */
  readonly floor?: string
  /** The same from another checkout of this repository, or with flags for its runtime. */
  readonly variant?: (name: string, changes: Variant) => TargetKind
}

interface Variant {
  readonly root?: string
  readonly flags?: readonly string[]
}

export interface Target extends Spawned {
  readonly kind: TargetKind
  readonly pid: number
  stop(): Promise<void>
}

export const TARGETS: readonly TargetKind[] = [
  script('ours-node', 'engine.ts', node, 'prototype-node'),
  script('prototype-node', 'prototype.ts', node),
  script('ours-bun', 'engine.ts', bun, 'prototype-bun'),
  script('prototype-bun', 'prototype.ts', bun),
  ENVOY,
  HAPROXY,
  NGINX,
]

export const PEERS: readonly string[] = [ENVOY, HAPROXY, NGINX].map(({ name }) => name)

/** `ours-node`, `ours-node@../other-checkout`, `ours-node:--flag:--flag=1`; undefined where there is no such target. */
export function targetCalled(name: string): TargetKind | undefined {
  const [, base, root, flags] = /^([^@:]+)(?:@([^:]+))?(?::(.+))?$/.exec(name) ?? []
  const kind = TARGETS.find((each) => each.name === base)
  if (root === undefined && flags === undefined) return kind
  return kind?.variant?.(name, {
    ...(root === undefined ? {} : { root: resolve(root) }),
    ...(flags === undefined ? {} : { flags: flags.split(':') }),
  })
}

/** Starts a target in a folder of its own, behind `prefix`; resolves when it accepts connections. */
export async function startTarget(
  kind: TargetKind,
  job: Job,
  folder: string,
  prefix: readonly string[] = [],
): Promise<Target> {
  mkdirSync(folder, { recursive: true })
  const { child, port } = await kind.spawn(job, folder, prefix)
  return { kind, child, port, pid: child.pid ?? 0, stop: () => end(child) }
}

function node(): Runtime {
  return runtimeCalled('node')
}

function bun(): Runtime {
  return runtimeCalled('bun')
}

/** As workers are run. */
function runtimeCalled(name: 'node' | 'bun'): Runtime {
  const found = findRuntime(name)
  if (!found.ok) throw new Error(found.error)
  return found.value
}

/** A script of ours: it chooses its port itself and says so on descriptor 3. */
function script(
  name: string,
  file: string,
  runtime: () => Runtime,
  floor?: string,
  variant: Variant = {},
): TargetKind {
  const { root = join(here, '..'), flags = [] } = variant
  return {
    name,
    ...(floor === undefined ? {} : { floor }),
    variant: (label, changes) => script(label, file, runtime, floor, { ...variant, ...changes }),
    version: () => execFileSync(runtime().file, ['--version'], { encoding: 'utf8' }).trim(),
    library: () => (runtime().name === 'node' ? `OpenSSL ${process.versions.openssl}` : 'BoringSSL'),
    async spawn(job, folder, prefix) {
      const jobFile = join(folder, 'job.json')
      writeFileSync(jobFile, JSON.stringify(job), { mode: 0o600 })
      const { file: program, argv, env } = runtime()
      const command = [...prefix, program, ...argv, ...flags, join(root, 'bench', file), jobFile]
      const child = spawnLogged(command, folder, 'pipe', env)
      const port = await new Promise<number>((listening, reject) => {
        child.once('error', reject)
        child.once('exit', (code) => reject(new Error(`${name} ended with ${code}${lastWords(folder)}`)))
        ;(child.stdio[3] as Readable).once('data', (line: Buffer) => listening(Number(line.toString())))
      })
      return { child, port }
    },
  }
}
