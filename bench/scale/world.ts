// What stays while one gateway after the other is measured: identities, the traffic, and for each gateway a discovery server of its own.
import { type ChildProcess, fork } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { createCa } from '../../src/identity/ca.ts'
import { writeCredential } from '../../src/identity/ca-folder.ts'
import { Target as Server } from '../discovery/target.ts'
import { GATEWAY, PEER_TRUST_DOMAIN, TRUST_DOMAIN } from './objects.ts'
import type { Callers, Order, TrafficResult } from './traffic.ts'

const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url))

export class World {
  /** Removed at the end. */
  readonly folder: string
  /** A credential folder of the gateway. */
  readonly certs: string
  readonly #traffic: ChildProcess
  readonly #backendPort: number
  readonly #caller: Omit<Callers, 'port'>

  private constructor(
    folder: string,
    traffic: ChildProcess,
    backendPort: number,
    caller: Omit<Callers, 'port'>,
  ) {
    this.folder = folder
    this.certs = join(folder, 'gateway')
    this.#traffic = traffic
    this.#backendPort = backendPort
    this.#caller = caller
  }

  static async start(): Promise<World> {
    const folder = mkdtempSync(join(tmpdir(), 'isthmus-bench-scale-'))
    const [ca, peer] = await Promise.all([
      createCa({ trustDomain: TRUST_DOMAIN }),
      createCa({ trustDomain: PEER_TRUST_DOMAIN }),
    ])
    const lifetimeMs = 3_600_000
    const issued = {
      gateway: { namespace: GATEWAY.namespace, serviceAccount: GATEWAY.name, lifetimeMs },
      discovery: { namespace: 'isthmus-system', serviceAccount: 'isthmus-discovery', lifetimeMs },
    }
    for (const [name, who] of Object.entries(issued))
      await writeCredential(join(folder, name), { ...(await ca.issue(who)), bundlePem: ca.bundlePem })
    writeFileSync(join(folder, 'peer.pem'), peer.bundlePem)
    const caller = await peer.issue({ namespace: 'client', serviceAccount: 'sleep', lifetimeMs })
    const traffic = fork(here('./traffic.ts'))
    const port = await answer<number>(traffic, 'port')
    const { certificatePem, privateKeyPem } = caller
    return new World(folder, traffic, port, { certificatePem, privateKeyPem, caPem: ca.bundlePem })
  }

  /** A discovery server with this many services. */
  discovery(services: number): Promise<Server> {
    return Server.start(process.execPath, [
      ...[here('./server.ts'), String(services), String(this.#backendPort)],
      ...[join(this.folder, 'discovery'), join(this.folder, 'peer.pem')],
    ])
  }

  /** The address at which the backend was called over this gateway; empty where the gateway does not lead there (yet). */
  call(port: number, serverName: string): Promise<string> {
    return this.#tell({ do: 'call', callers: { ...this.#caller, port }, serverName }, 'address')
  }

  startTraffic(port: number, serverNames: readonly string[]): Promise<true> {
    return this.#tell({ do: 'start', callers: { ...this.#caller, port }, serverNames }, 'started')
  }

  stopTraffic(): Promise<TrafficResult> {
    return this.#tell({ do: 'stop' }, 'result')
  }

  stop(): void {
    this.#traffic.disconnect()
    rmSync(this.folder, { recursive: true, force: true })
  }

  #tell<T>(order: Order, field: string): Promise<T> {
    const told = answer<T>(this.#traffic, field)
    this.#traffic.send(order)
    return told
  }
}

/** The next message with this field. */
function answer<T>(child: ChildProcess, field: string): Promise<T> {
  return new Promise((resolve, reject) => {
    const gone = () => reject(new Error('the process of the traffic ended'))
    const take = (message: Record<string, T>): void => {
      if (!(field in message)) return
      child.off('message', take)
      child.off('exit', gone)
      resolve(message[field] as T)
    }
    child.once('exit', gone)
    child.on('message', take)
  })
}
