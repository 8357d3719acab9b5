// The gateways that are measured, as they run in production: a launcher with its supervisor and one worker, or an Envoy.
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, mkdirSync, openSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { eventually } from './eventually.ts'
import { CLUSTER, GATEWAY } from './objects.ts'
import type { LoopDelay } from './probe.ts'

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url))

export interface Gateway {
  readonly name: string
  readonly port: number
  /** The process that carries traffic; and the one that has the configuration from discovery, where that is another. */
  readonly worker: number
  readonly supervisor: number | undefined
  /** Of the worker's event loop since this was called last; undefined where it has none. */
  loopDelay(): Promise<LoopDelay | undefined>
  stop(): Promise<void>
}

export interface GatewayOptions {
  /** For its files; made. */
  readonly folder: string
  readonly port: number
  /** Port of the discovery server, mutual TLS. */
  readonly discovery: number
  /** A credential folder, as `isthmus` takes it. */
  readonly certs: string
}

/** Ours, with one worker; `root`: of another checkout. */
export async function startOurs(
  runtime: 'node' | 'bun',
  { folder, port, discovery, certs }: GatewayOptions,
  root = here('../..'),
): Promise<Gateway> {
  mkdirSync(folder, { recursive: true })
  const probe = here('./probe.ts')
  const log = join(folder, 'log')
  const child = spawnLogged(
    process.execPath,
    [
      ...[join(root, 'src/main.ts'), 'gateway', '--cluster', CLUSTER, '--name', GATEWAY.name],
      ...['--namespace', GATEWAY.namespace, '--discovery', `127.0.0.1:${discovery}`, '--certs', certs],
      ...['--run-dir', join(folder, 'run'), '--bind', `127.0.0.1:${port}`, '--workers', '1'],
      ...['--runtime', runtime, '--drain-delay', '0s', '--drain', '1s'],
      ...['--admin', '127.0.0.1:0', '--health', '127.0.0.1:0', '--metrics', '127.0.0.1:0'],
    ],
    log,
    {
      ISTHMUS_ALLOW_LOCAL_ENDPOINTS: 'true',
      ISTHMUS_PROBE_FOLDER: folder,
      NODE_OPTIONS: `--import=${probe}`,
      BUN_OPTIONS: `--preload=${probe}`,
    },
  )
  const pids = await eventually('our gateway serves', () => {
    if (child.exitCode !== null) throw new Error(`our gateway ended: ${readFileSync(log, 'utf8')}`)
    const lines = linesOf(log)
    const serves = lines.some(({ msg, listeners }) => msg === 'ready' && listeners !== undefined)
    const pidOf = (name: string) =>
      lines.find(({ msg, child }) => msg === 'started' && child === name)?.['pid'] as number | undefined
    return serves ? { worker: pidOf('worker') ?? 0, supervisor: pidOf('supervisor') ?? 0 } : undefined
  })
  return {
    name: `ours-${runtime}`,
    port,
    ...pids,
    loopDelay: () => askProbe(folder, pids.worker),
    stop: () => stop(child),
  }
}

/** An Envoy of one worker thread, over Delta ADS from the same server. */
export async function startEnvoy(
  command: string,
  { folder, port, discovery, certs }: GatewayOptions,
): Promise<Gateway> {
  mkdirSync(folder, { recursive: true })
  const own = {
    certificate_chain: { filename: join(certs, 'tls.crt') },
    private_key: { filename: join(certs, 'tls.key') },
  }
  const secret = join(folder, 'sds.json')
  const type = 'type.googleapis.com/envoy.extensions.transport_sockets.tls.v3'
  const resource = { '@type': `${type}.Secret`, name: 'default', tls_certificate: own }
  writeFileSync(secret, JSON.stringify({ resources: [resource] }))
  const text = readFileSync(here('./envoy.yaml'), 'utf8')
  const values: Readonly<Record<string, string>> = {
    CLUSTER,
    NODE: `router~127.0.0.1~${GATEWAY.name}.${GATEWAY.namespace}~${GATEWAY.namespace}.svc.cluster.local`,
    BIND: `127.0.0.1:${port}`,
    DISCOVERY_PORT: String(discovery),
    SECRET_FILE: secret,
    CERTIFICATE_FILE: own.certificate_chain.filename,
    KEY_FILE: own.private_key.filename,
    CA_FILE: join(certs, 'ca.crt'),
  }
  const config = join(folder, 'envoy.yaml')
  writeFileSync(
    config,
    text.replace(/\$\{(\w+)\}/g, (whole, name: string) => values[name] ?? whole),
  )
  const args = ['-c', config, '--disable-hot-restart', '--concurrency', '1', '-l', 'warn']
  const child = spawnLogged(command, args, join(folder, 'log'), {})
  child.once('error', () => {})
  return {
    name: 'envoy',
    port,
    worker: child.pid ?? 0,
    supervisor: undefined,
    loopDelay: async () => undefined,
    stop: () => stop(child),
  }
}

function linesOf(log: string): Record<string, unknown>[] {
  const text = readFileSync(log, 'utf8')
  const whole = text.slice(0, text.lastIndexOf('\n') + 1)
  return whole
    .split('\n')
    .filter((line) => line.startsWith('{'))
    .map((line) => JSON.parse(line))
}

function spawnLogged(
  command: string,
  args: readonly string[],
  log: string,
  env: NodeJS.ProcessEnv,
): ChildProcess {
  const out = openSync(log, 'w')
  const child = spawn(command, args, { stdio: ['ignore', out, out], env: { ...process.env, ...env } })
  closeSync(out)
  return child
}

async function askProbe(folder: string, pid: number): Promise<LoopDelay> {
  const file = join(folder, `${pid}.json`)
  rmSync(file, { force: true })
  process.kill(pid, 'SIGWINCH')
  return eventually('the probe answers', () => {
    if (statSync(file, { throwIfNoEntry: false }) === undefined) return undefined
    return JSON.parse(readFileSync(file, 'utf8')) as LoopDelay
  })
}

async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return
  const gone = once(child, 'exit')
  child.kill('SIGTERM')
  const timer = setTimeout(() => child.kill('SIGKILL'), 5_000)
  await gone
  clearTimeout(timer)
}
