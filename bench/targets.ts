// What stands under load: our engine and the prototype, each on Node and on Bun, and the peers, each told the same job.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs'
import { type AddressInfo, connect, createServer } from 'node:net'
import { delimiter, dirname, join, resolve } from 'node:path'
import type { Readable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { findRuntime } from '../src/cli/runtime.ts'
import type { Job } from './job.ts'

const here = dirname(fileURLToPath(import.meta.url))

export interface TargetKind {
  readonly name: string
  /** Of the program, for the reader; throws when it cannot be run. */
  version(): string
  /** Another target that does the same with less; ours may cost so much more at most. */
  readonly floor?: string
  readonly spawn: (job: Job, folder: string) => Promise<Spawned>
  /** The same from another checkout of this repository, or with flags for its runtime. */
  readonly variant?: (name: string, changes: Variant) => TargetKind
}

interface Variant {
  readonly root?: string
  readonly flags?: readonly string[]
}

interface Spawned {
  readonly child: ChildProcess
  readonly port: number
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
  {
    name: 'envoy',
    version: () =>
      /\/(\d+\.\d+\.\d+)\//.exec(execFileSync(envoy(), ['--version'], { encoding: 'utf8' }))?.[1] ?? '',
    spawn: (job, folder) =>
      peer(job, folder, 'envoy.yaml', envoy(), (config) => [
        ...['-c', config, '--concurrency', '1', '--disable-hot-restart', '-l', 'error'],
      ]),
  },
  {
    name: 'haproxy',
    version: () => /version (\S+)/.exec(execFileSync(haproxy(), ['-v'], { encoding: 'utf8' }))?.[1] ?? '',
    spawn: (job, folder) => peer(job, folder, 'haproxy.cfg', haproxy(), (config) => ['-db', '-f', config]),
  },
]

export const PEERS: readonly string[] = ['envoy', 'haproxy']

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

/** Starts a target in a folder of its own; resolves when it accepts connections. */
export async function startTarget(kind: TargetKind, job: Job, folder: string): Promise<Target> {
  mkdirSync(folder, { recursive: true })
  const { child, port } = await kind.spawn(job, folder)
  return { kind, child, port, pid: child.pid ?? 0, stop: () => end(child) }
}

function node(): string {
  return process.execPath
}

function bun(): string {
  const found = findRuntime('bun')
  if (!found.ok) throw new Error(found.error)
  return found.value.file
}

function envoy(): string {
  return process.env['ENVOY_BIN'] || needed('envoy', 'ENVOY_BIN is not set and `envoy` is not on PATH')
}

function haproxy(): string {
  return needed('haproxy', '`haproxy` is not on PATH')
}

function needed(command: string, why: string): string {
  const found = onPath(command)
  if (found === undefined) throw new Error(why)
  return found
}

function onPath(command: string): string | undefined {
  // Debian has what only root should run in sbin, which is not on everybody's PATH.
  const folders = [...(process.env['PATH'] ?? '').split(delimiter), '/usr/sbin', '/usr/local/sbin']
  return folders.map((folder) => join(folder, command)).find((file) => existsSync(file))
}

/** A script of ours: it chooses its port itself and says so on descriptor 3. */
function script(
  name: string,
  file: string,
  runtime: () => string,
  floor?: string,
  variant: Variant = {},
): TargetKind {
  const { root = join(here, '..'), flags = [] } = variant
  return {
    name,
    ...(floor === undefined ? {} : { floor }),
    variant: (label, changes) => script(label, file, runtime, floor, { ...variant, ...changes }),
    version: () => execFileSync(runtime(), ['--version'], { encoding: 'utf8' }).trim(),
    async spawn(job, folder) {
      const jobFile = join(folder, 'job.json')
      writeFileSync(jobFile, JSON.stringify(job), { mode: 0o600 })
      const child = spawnLogged(runtime(), [...flags, join(root, 'bench', file), jobFile], folder, 'pipe')
      const port = await new Promise<number>((listening, reject) => {
        child.once('error', reject)
        child.once('exit', (code) => reject(new Error(`${name} ended with ${code}${lastWords(folder)}`)))
        ;(child.stdio[3] as Readable).once('data', (line: Buffer) => listening(Number(line.toString())))
      })
      return { child, port }
    },
  }
}

/** A peer: its configuration from `peers/`, with names filled in, on a port that was free a moment ago. */
async function peer(
  job: Job,
  folder: string,
  template: string,
  command: string,
  args: (config: string) => string[],
): Promise<Spawned> {
  const port = await freePort()
  const file = (name: string, content: string): string => {
    writeFileSync(join(folder, name), content, { mode: 0o600 })
    return join(folder, name)
  }
  const values: Readonly<Record<string, string | number>> = {
    PORT: port,
    BACKEND_PORT: job.backendPort,
    SERVER_NAME: job.serverName,
    TRUST_DOMAIN: job.trustDomain,
    CERTIFICATE_FILE: file('tls.crt', job.certificatePem),
    KEY_FILE: file('tls.key', job.privateKeyPem),
    COMBINED_FILE: file('tls.pem', `${job.certificatePem}\n${job.privateKeyPem}`),
    CA_FILE: file('ca.crt', job.caPem),
  }
  const text = readFileSync(join(here, 'peers', template), 'utf8')
  // Comments may speak of ${NAMES} in general.
  const config = file(
    template,
    text.replace(/\$\{(\w+)\}/g, (whole, name: string) => String(values[name] ?? whole)),
  )
  const child = spawnLogged(command, args(config), folder, 'ignore')
  let exited: string | undefined
  child.once('error', (error) => {
    exited = error.message
  })
  child.once('exit', (code) => {
    exited = `it ended with ${code}`
  })
  while (!(await accepts(port))) {
    if (exited !== undefined) throw new Error(`${command}: ${exited}${lastWords(folder)}`)
    await new Promise((later) => setTimeout(later, 20))
  }
  return { child, port }
}

/** What it writes goes to files: an access log costs a write, as in production, and the harness does not read it. */
function spawnLogged(
  command: string,
  args: string[],
  folder: string,
  stdin: 'pipe' | 'ignore',
): ChildProcess {
  const out = openSync(join(folder, 'stdout'), 'w')
  const error = openSync(join(folder, 'stderr'), 'w')
  const child = spawn(command, args, { stdio: [stdin, out, error, 'pipe'] })
  closeSync(out)
  closeSync(error)
  return child
}

function lastWords(folder: string): string {
  const said = readFileSync(join(folder, 'stderr'), 'utf8') + readFileSync(join(folder, 'stdout'), 'utf8')
  return said === '' ? '' : `: ${said.trim().split('\n').slice(-3).join(' / ')}`
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}

function accepts(port: number): Promise<boolean> {
  return new Promise((answer) => {
    const socket = connect(port, '127.0.0.1')
    socket.once('connect', () => {
      socket.destroy()
      answer(true)
    })
    socket.once('error', () => answer(false))
  })
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const exited = once(child, 'exit')
  child.kill('SIGTERM')
  const timer = setTimeout(() => child.kill('SIGKILL'), 3_000)
  await exited
  clearTimeout(timer)
}
