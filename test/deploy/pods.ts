// Pods without a kubelet: network namespaces on a bridge, each container with its own read-only root, its mounts as the manifest
// names them, and its exact command. Needs unshare, nsenter, ip, and either root or unprivileged user namespaces.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'

const root = process.getuid?.() === 0
/** The image's user; without root only the caller's own id can be mapped, which is not root outside either. */
export const IMAGE_UID = root ? 65_532 : (process.getuid?.() ?? 0)

export interface Mount {
  readonly path: string
  /** File name → text; written as the kubelet does, through `..data`. Undefined: an emptyDir. */
  readonly files?: Readonly<Record<string, string>>
}

export interface ContainerSpec {
  readonly command: readonly string[]
  readonly env: Readonly<Record<string, string>>
  readonly mounts: readonly Mount[]
  /** Lines of /etc/hosts, in place of cluster DNS. */
  readonly hosts: readonly string[]
  /** What the image has: `/app` (dist, node_modules, package.json, src/isthmus.js). */
  readonly app: string
  readonly node: string
}

interface Holder {
  readonly process: ChildProcess
  readonly pid: number
}

async function hold(command: string, args: readonly string[]): Promise<Holder> {
  const child = spawn(command, [...args, 'sh', '-c', 'echo $$; exec cat >/dev/null'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  const [line] = (await once(child.stdout, 'data')) as [Buffer]
  return { process: child, pid: Number(line.toString().trim()) }
}

const enter = (pid: number): string[] => [
  ...(root ? [] : ['--user', '--preserve-credentials']),
  '--net',
  '--mount',
  '--target',
  String(pid),
  '--',
]

/** A bridge of pods in a network of their own: nothing here can reach, or be reached from, any other network. */
export class PodNetwork {
  readonly folder = mkdtempSync(join(tmpdir(), 'isthmus-pods-'))
  readonly #node: Holder
  readonly #pods: Holder[] = []
  readonly #running: ChildProcess[] = []

  private constructor(node: Holder) {
    this.#node = node
  }

  static async create(address: string): Promise<PodNetwork> {
    const network = new PodNetwork(await hold('unshare', [...(root ? [] : ['-Ur']), '-n', '-m']))
    network.run(
      `mount --make-rprivate /; ip link set lo up; ip link add br0 type bridge; ip addr add ${address}/8 dev br0; ip link set br0 up`,
    )
    return network
  }

  /** Runs a shell script in the node's namespaces (or a pod's) and returns what it printed. */
  run(script: string, pid = this.#node.pid): string {
    return execFileSync('nsenter', [...enter(pid), 'sh', '-ec', script], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
    })
  }

  /** A program in the node's network, outside any pod. */
  start(command: string, args: readonly string[], env: Readonly<Record<string, string>> = {}): ChildProcess {
    return this.#track(
      spawn('nsenter', [...enter(this.#node.pid), command, ...args], {
        stdio: ['ignore', 'pipe', 'inherit'],
        env: { ...process.env, ...env },
      }),
    )
  }

  /** A pod with these addresses on the bridge; all of them on one wire. */
  async pod(addresses: readonly string[]): Promise<number> {
    const pod = await hold('nsenter', [...enter(this.#node.pid), 'unshare', '-n', '-m'])
    const name = `pod${this.#pods.push(pod)}`
    this.run(
      `ip link add ${name} type veth peer name eth0 netns ${pod.pid}; ip link set ${name} master br0 up`,
    )
    this.run(
      `ip link set lo up; ip link set eth0 up; ${addresses.map((address) => `ip addr add ${address}/8 dev eth0`).join('; ')}`,
      pod.pid,
    )
    return pod.pid
  }

  /** Starts a container in a pod; its standard output is a pipe. */
  container(pod: number, name: string, spec: ContainerSpec): ChildProcess {
    const rootfs = join(this.folder, name)
    mkdirSync(rootfs)
    const script = join(this.folder, `${name}.sh`)
    writeFileSync(script, this.#script(rootfs, name, spec))
    const child = spawn('nsenter', [...enter(pod), 'unshare', '-m', 'sh', script, ...spec.command], {
      stdio: ['ignore', 'pipe', 'inherit'],
      env: {} as NodeJS.ProcessEnv,
    })
    return this.#track(child)
  }

  /** Swaps a mounted directory's files the way the kubelet does: a new folder, then `..data` renamed over. */
  static project(directory: string, files: Readonly<Record<string, string>>): void {
    const version = `..${process.hrtime.bigint()}`
    mkdirSync(join(directory, version), { recursive: true })
    for (const [file, text] of Object.entries(files)) {
      writeFileSync(join(directory, version, file), text, { mode: 0o444 })
      try {
        symlinkSync(join('..data', file), join(directory, file))
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error
      }
    }
    symlinkSync(version, join(directory, '..next'))
    execFileSync('mv', ['-T', join(directory, '..next'), join(directory, '..data')])
  }

  mountOf(name: string, path: string): string {
    return join(this.folder, `${name}.mounts`, path)
  }

  #script(rootfs: string, name: string, spec: ContainerSpec): string {
    const lines = [
      'set -e',
      'PATH=/usr/sbin:/usr/bin:/sbin:/bin',
      `mount -t tmpfs tmpfs ${rootfs}`,
      `cd ${rootfs}`,
      'mkdir -p usr/bin usr/lib usr/local/bin etc proc dev app',
    ]
    const bind = (from: string, to: string): void => void lines.push(`mount --rbind ${from} ${to}`)
    bind('/usr/bin', 'usr/bin')
    bind('/usr/lib', 'usr/lib')
    lines.push(
      'ln -s usr/bin bin; ln -s usr/lib lib; for d in lib64 lib32; do if [ -e /$d ]; then mkdir -p $d; mount --rbind /$d $d; fi; done',
    )
    bind('/proc', 'proc')
    bind('/dev', 'dev')
    bind(spec.app, 'app')
    lines.push(
      'mount -o remount,bind,ro app',
      'ln -s /app/src/isthmus.js usr/local/bin/isthmus',
      `: > usr/local/bin/node; mount --bind ${spec.node} usr/local/bin/node`,
    )
    lines.push(
      `printf '%s\\n' '127.0.0.1 localhost' ${spec.hosts.map((line) => `'${line}'`).join(' ')} > etc/hosts`,
    )
    for (const mount of spec.mounts) {
      const inside = `.${mount.path}`
      lines.push(`mkdir -p ${inside}`)
      if (mount.files === undefined)
        lines.push(
          `mount -t tmpfs tmpfs ${inside}; ${root ? `chown ${IMAGE_UID}:${IMAGE_UID} ${inside}` : ':'}`,
        )
      else {
        const outside = this.mountOf(name, mount.path)
        mkdirSync(outside, { recursive: true })
        PodNetwork.project(outside, mount.files)
        lines.push(`mount --bind ${outside} ${inside}; mount -o remount,bind,ro ${inside}`)
      }
    }
    const privileges = root
      ? `setpriv --reuid=${IMAGE_UID} --regid=${IMAGE_UID} --clear-groups --no-new-privs --inh-caps=-all --bounding-set=-all`
      : 'setpriv --no-new-privs'
    const env = Object.entries({ NODE_ENV: 'production', ...spec.env }).map(
      ([key, value]) => `${key}='${value}'`,
    )
    lines.push(
      `mount -o remount,ro ${rootfs}`,
      `cd /; exec chroot ${rootfs} /usr/bin/${privileges} /usr/bin/env -i PATH=/usr/local/bin:/usr/bin ${env.join(' ')} "$@"`,
    )
    return `${lines.join('\n')}\n`
  }

  #track(child: ChildProcess): ChildProcess {
    this.#running.push(child)
    return child
  }

  async close(): Promise<void> {
    for (const child of this.#running) {
      if (child.exitCode !== null || child.signalCode !== null) continue
      const gone = once(child, 'exit')
      child.kill('SIGKILL')
      await gone
    }
    for (const { process: holder } of [...this.#pods, this.#node]) {
      const gone = once(holder, 'exit')
      holder.stdin?.end()
      await gone
    }
    rmSync(this.folder, { recursive: true, force: true })
  }
}

/** The image's `/app`, made as the Dockerfile makes it: the build, and the production packages alone. */
export function buildApp(repository: string, app: string): void {
  const bin = join(repository, 'node_modules', '.bin')
  execFileSync(
    join(bin, 'tsc'),
    ['-p', join(repository, 'src', 'tsconfig.build.json'), '--outDir', join(app, 'dist')],
    { stdio: 'inherit' },
  )
  cpSync(join(repository, 'src', 'xds', 'gen'), join(app, 'dist', 'xds', 'gen'), { recursive: true })
  mkdirSync(join(app, 'src'))
  cpSync(join(repository, 'src', 'isthmus.js'), join(app, 'src', 'isthmus.js'))
  cpSync(join(repository, 'package.json'), join(app, 'package.json'))
  const listed = execFileSync('npm', ['ls', '--all', '--parseable', '--omit=dev', '--omit=optional'], {
    cwd: repository,
    encoding: 'utf8',
  })
  const folders = listed.split('\n').filter((path) => path.includes('/node_modules/'))
  for (const from of folders) {
    const to = join(app, from.slice(repository.length))
    mkdirSync(dirname(to), { recursive: true })
    // Nested packages have lines of their own.
    cpSync(from, to, {
      recursive: true,
      filter: (path) => path === from || !path.slice(from.length).startsWith('/node_modules'),
    })
  }
}
