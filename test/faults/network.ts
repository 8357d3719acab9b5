// A machine for the gateway: a network namespace of its own, joined to ours by three wires, each of which can be unplugged.
// Ours is one as well (`unshare -Urnm`), so that no root is needed and nothing of the real machine is touched.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFileSync } from 'node:fs'

/** To the clients, to the services, to discovery. */
export type Wire = 'clients' | 'services' | 'discovery'
const WIRES: readonly Wire[] = ['clients', 'services', 'discovery']

/** Our end of a wire, and the gateway's. */
export const ours = (wire: Wire): string => `10.78.${WIRES.indexOf(wire) + 1}.1`
export const theirs = (wire: Wire): string => `10.78.${WIRES.indexOf(wire) + 1}.2`
/** Behind the services' wire: takes everything, answers nothing. */
export const BLACK_HOLE = '10.78.2.99'

export class Network {
  readonly #holder: ChildProcess

  private constructor(holder: ChildProcess) {
    this.#holder = holder
  }

  static async create(): Promise<Network> {
    run('ip', 'link', 'set', 'lo', 'up')
    const holder = spawn('unshare', ['-n', 'sh', '-c', 'ip link set lo up && echo ready && read -r _ <&3'], {
      stdio: ['ignore', 'pipe', 'inherit', 'pipe'],
    })
    await once(holder.stdout as NodeJS.ReadableStream, 'data')
    const network = new Network(holder)
    for (const wire of WIRES) {
      run('ip', 'link', 'add', wire, 'type', 'veth', 'peer', 'name', wire, 'netns', String(holder.pid))
      run('ip', 'addr', 'add', `${ours(wire)}/24`, 'dev', wire)
      run('ip', 'link', 'set', wire, 'up')
      network.#inside('ip', 'addr', 'add', `${theirs(wire)}/24`, 'dev', wire)
      network.#inside('ip', 'link', 'set', wire, 'up')
    }
    network.#inside('ip', 'neigh', 'add', BLACK_HOLE, 'lladdr', '02:00:00:00:00:99', 'dev', 'services')
    return network
  }

  /** Put before a command line to run it on the gateway's machine. */
  get prefix(): readonly string[] {
    return ['nsenter', '-t', String(this.#holder.pid), '-n', '--']
  }

  unplug(wire: Wire): void {
    run('ip', 'link', 'set', wire, 'down')
  }

  plug(wire: Wire): void {
    run('ip', 'link', 'set', wire, 'up')
  }

  /** Which local ports the gateway's machine may use for connections that it opens. */
  localPorts(from: number, to: number): void {
    this.#inside('sh', '-c', `echo ${from} ${to} > /proc/sys/net/ipv4/ip_local_port_range`)
  }

  /** How much the kernel may keep of a connection that is made from now on, each way on each machine. */
  kernelBuffers(most: number): void {
    for (const name of ['tcp_rmem', 'tcp_wmem']) {
      const set = ['sh', '-c', `echo 4096 ${Math.min(most, 65_536)} ${most} > /proc/sys/net/ipv4/${name}`]
      run(...set)
      this.#inside(...set)
    }
  }

  close(): void {
    this.#holder.kill('SIGKILL')
  }

  #inside(...command: string[]): void {
    run(...this.prefix, ...command)
  }
}

/** A file system of a few megabytes that can be full. It goes with our mount namespace. */
export class SmallDisk {
  readonly #path: string

  constructor(path: string, megabytes: number) {
    this.#path = path
    run('mount', '-t', 'tmpfs', '-o', `size=${megabytes}m,mode=700`, 'tmpfs', path)
  }

  /** Until not one byte fits. */
  fill(): void {
    try {
      for (let part = 0; ; part += 1) writeFileSync(`${this.#path}/.full-${part}`, Buffer.alloc(262_144))
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error
    }
  }

  /** Whoever still has a file open there keeps what he has. */
  close(): void {
    run('umount', '--lazy', this.#path)
  }

  free(): void {
    run('sh', '-c', `rm -f ${this.#path}/.full-*`)
  }
}

function run(...[program = '', ...args]: string[]): void {
  execFileSync(program, args, { stdio: ['ignore', 'ignore', 'pipe'] })
}
