import { once } from 'node:events'
import { connect as connectTcp } from 'node:net'
import { join } from 'node:path'
import { connect, type TLSSocket } from 'node:tls'
import { TYPE } from '../../src/xds/types.ts'
import {
  type Backend,
  backend,
  endpoints,
  gatewayListener,
  SNI,
  trustSecret,
  upstream,
} from '../proxy/support.ts'
import { freePort, getJson, Pod, type Scope, TestCluster } from './pod.ts'

export const EPHEMERAL = ['--admin', '127.0.0.1:0', '--health', '127.0.0.1:0', '--metrics', '127.0.0.1:0']

/** A gateway's world: discovery with one exposed service, whose backend echoes. */
export class World {
  readonly cluster: TestCluster
  readonly target: Backend
  readonly port: number
  readonly certs: string
  readonly runDirectory: string

  private constructor(cluster: TestCluster, target: Backend, port: number, certs: string) {
    this.cluster = cluster
    this.target = target
    this.port = port
    this.certs = certs
    this.runDirectory = join(cluster.folder, 'run')
  }

  static async create(scope: Scope): Promise<World> {
    const [cluster, target, port] = await Promise.all([TestCluster.create(scope), backend(), freePort()])
    scope.teardown(() => target.close())
    const world = new World(cluster, target, port, await cluster.certify('gateway'))
    const { discovery } = cluster
    await discovery.start()
    discovery.put(TYPE.listener, gatewayListener({ port }))
    discovery.put(TYPE.cluster, upstream(SNI))
    discovery.put(TYPE.endpoints, endpoints(SNI, [{ port: target.port }]))
    discovery.put(TYPE.secret, trustSecret([cluster.ca]))
    return world
  }

  start(scope: Scope, ...more: string[]): Pod {
    return new Pod(scope, this.args(...more))
  }

  /** The command line of its gateway. */
  args(...more: string[]): string[] {
    const who = ['--cluster', 'cluster-1', '--name', 'gateway', '--namespace', 'bookinfo']
    const where = [
      '--discovery',
      this.cluster.discovery.address,
      '--certs',
      this.certs,
      '--run-dir',
      this.runDirectory,
    ]
    const some = ['--workers', '1', '--drain-delay', '0s']
    return ['gateway', ...who, ...where, '--bind', `127.0.0.1:${this.port}`, ...EPHEMERAL, ...some, ...more]
  }

  /** A client that has been let in. */
  async connect(): Promise<TLSSocket> {
    const client = await this.cluster.ca.issue({ namespace: 'bookinfo', serviceAccount: 'sleep' })
    const socket = connect({
      host: '127.0.0.1',
      port: this.port,
      servername: SNI,
      cert: client.certificatePem,
      key: client.privateKeyPem,
      ca: this.cluster.ca.bundlePem,
      checkServerIdentity: () => undefined,
    })
    socket.on('error', () => {})
    await once(socket, 'secureConnect')
    return socket
  }
}

/** Sends a text and resolves with what comes back. */
export async function echoes(socket: TLSSocket, text: string): Promise<string> {
  socket.write(text)
  const [chunk] = (await once(socket, 'data')) as [Buffer]
  return chunk.toString()
}

/** One worker in `/status`. */
export interface WorkerPart {
  readonly pid: number
  readonly slot: number
  readonly generation: number
  readonly state: string
  readonly runtime: string
  readonly connections: { readonly open: number }
}

export interface Status {
  readonly ready: boolean
  readonly pending: readonly string[]
  readonly source: string
  readonly workers: readonly WorkerPart[]
}

export async function statusOf(pod: Pod): Promise<Status> {
  return (await getJson(`${await pod.url('admin')}/status`)).body
}

/** How a connection attempt ends. */
export function knock(port: number): Promise<string> {
  return new Promise((resolve) => {
    const socket = connectTcp(port, '127.0.0.1')
    socket.once('connect', () => {
      socket.destroy()
      resolve('connected')
    })
    socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message))
  })
}
