// `--netns`: one network and one mount namespace per cluster, inside a user namespace of our own, so that no root is
// needed where the kernel allows that. The clusters meet on a bridge, where only their gateways and discovery servers
// have addresses; pods live on each namespace's own loopback, out of the others' reach, as behind a real cluster's network.
import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'

const INSIDE = 'ISTHMUS_DEMO_NETNS'
/** `10.77.N.0/24` is cluster N's part of the bridge's network. */
export const BRIDGE_PREFIX = '10.77'
/** The resolver that each cluster's resolv.conf names: its sidecar. */
export const NAMESERVER = '127.0.0.53'
/** Gateway pods get addresses from .10 on. */
const FIRST_POD = 10
const LAST_POD = 40

export const insideNetns = (): boolean => process.env[INSIDE] === '1'

/** Runs this same command line in new namespaces, and ends as it ends; it ends when we do. */
export async function runInNamespaces(): Promise<number> {
  const child = spawn(
    'unshare',
    ['-Urnm', process.execPath, ...process.execArgv, process.argv[1] ?? '', ...process.argv.slice(2)],
    {
      stdio: ['inherit', 'inherit', 'inherit', 'pipe'],
      env: { ...process.env, [INSIDE]: '1', ISTHMUS_LIFELINE_FD: '3' },
    },
  )
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => child.kill(signal))
  try {
    const [code] = (await once(child, 'exit')) as [number | null]
    return code ?? 1
  } catch (error) {
    process.stderr.write(
      `isthmus demo --netns: unshare (util-linux) cannot be run: ${(error as Error).message}\n`,
    )
    return 1
  }
}

/** Why namespaces cannot be made here; undefined when they can. */
export function namespacesUnavailable(): string | undefined {
  const tried = spawnSync(
    'unshare',
    ['-Urnm', 'sh', '-c', 'ip link set lo up && mount -t tmpfs tmpfs /run'],
    { encoding: 'utf8' },
  )
  if (tried.error !== undefined) return `unshare (util-linux): ${tried.error.message}`
  return tried.status === 0 ? undefined : `unshare -Urnm: ${tried.stderr.trim()}`
}

export interface Namespace {
  /** Put before a command line to run it there. */
  readonly prefix: readonly string[]
  /** Of the process that holds the namespaces, as a pod's pause container does. */
  readonly pid: number
}

/** Called once, inside: the bridge that the clusters' networks hang on. */
export function createBridge(): void {
  run('mount', '-t', 'tmpfs', 'tmpfs', '/run')
  run('ip', 'link', 'set', 'lo', 'up')
  run('ip', 'link', 'add', 'mesh', 'type', 'bridge')
  run('ip', 'link', 'set', 'mesh', 'up')
}

/** Cluster `index`'s namespaces, with its own resolv.conf. They end with this process. */
export async function createNamespace(index: number, folder: string): Promise<Namespace> {
  const resolvConf = join(folder, 'resolv.conf')
  writeFileSync(
    resolvConf,
    `# The cluster's DNS is its sidecar's.\nnameserver ${NAMESERVER}\noptions timeout:2 attempts:1\n`,
  )
  const holder = spawn('unshare', ['-nm', 'sh', '-c', HOLD, 'sh', resolvConf], {
    stdio: ['ignore', 'pipe', 'inherit', 'pipe'],
  })
  await ready(holder)
  const pid = holder.pid ?? 0
  const prefix = ['nsenter', '-t', String(pid), '-n', '-m', '--']
  const link = `cluster${index}`
  run('ip', 'link', 'add', link, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', String(pid))
  run('ip', 'link', 'set', link, 'master', 'mesh')
  run('ip', 'link', 'set', link, 'up')
  const addresses = [1, ...Array.from({ length: LAST_POD - FIRST_POD + 1 }, (_, i) => FIRST_POD + i)]
  const batch = addresses.map((n) => `addr add ${BRIDGE_PREFIX}.${index}.${n}/16 dev eth0`)
  const commands = ['link set lo up', ...batch, 'link set eth0 up'].join('\n')
  execFileSync('nsenter', ['-t', String(pid), '-n', '--', 'ip', '-batch', '-'], {
    input: `${commands}\n`,
    stdio: ['pipe', 'ignore', 'inherit'],
  })
  holder.unref()
  return { prefix, pid }
}

/**
 * Where resolv.conf is a link into /run (systemd-resolved, resolvconf), the target is made first; an empty /run also keeps
 * the C library from asking a resolver daemon behind resolv.conf's back. Then it waits for the end of its lifeline.
 */
const HOLD = `set -e
mount -t tmpfs tmpfs /run
target=$(readlink -m /etc/resolv.conf)
[ -e "$target" ] || { mkdir -p "$(dirname "$target")"; touch "$target"; }
mount --bind "$1" "$target"
echo ready
read -r _ <&3`

async function ready(holder: ChildProcess): Promise<void> {
  const outcome = await Promise.race([
    once(holder.stdout!, 'data'),
    once(holder, 'exit').then(() => 'exit' as const),
  ])
  if (outcome === 'exit') throw new Error('a namespace for a cluster could not be set up')
}

function run(program: string, ...args: string[]): void {
  execFileSync(program, args, { stdio: ['ignore', 'ignore', 'inherit'] })
}
