// A fleet of Delta sidecars in this process, and what it takes until the last of them has what it should have.

import { once } from 'node:events'
import { connect } from 'node:net'
import { connect as connectTls, type TLSSocket } from 'node:tls'
import { Sidecar, TYPE } from './sidecar.ts'
import { field, type Response } from './wire.ts'

export interface Credential {
  readonly cert: string
  readonly key: string
  readonly ca: string
}

export interface FleetOptions {
  readonly port: number
  /** Undefined: in clear. */
  readonly credential?: Credential | undefined
  /** Told to the server as `node.user_agent_name`. */
  readonly userAgent: string
  readonly namespace: string
}

/** How many handshakes are under way at one time. */
const CONNECTING = 64

export class Fleet {
  readonly #options: FleetOptions
  #sidecars: Sidecar[] = []
  #onResponse: (sidecar: Sidecar, response: Response) => void = () => {}
  #onResource: (sidecar: Sidecar, name: string, version: string) => void = () => {}
  #fail: (error: Error) => void = (error) => {
    throw error
  }

  constructor(options: FleetOptions) {
    this.#options = options
  }

  get size(): number {
    return this.#sidecars.length
  }

  get received(): number {
    return this.#sidecars.reduce((sum, { received }) => sum + received, 0)
  }

  /** Connections, and over TLS their handshakes; no stream yet. */
  async connect(count: number): Promise<void> {
    const next = Array.from({ length: count }, (_, i) => i)[Symbol.iterator]()
    const worker = async () => {
      for (const index of next) this.#sidecars.push(await this.#sidecar(index))
    }
    await Promise.all(Array.from({ length: CONNECTING }, worker))
  }

  async #sidecar(index: number): Promise<Sidecar> {
    const { port, credential } = this.#options
    const socket =
      credential === undefined
        ? connect({ host: '127.0.0.1', port })
        : connectTls({
            host: '127.0.0.1',
            port,
            ...credential,
            ALPNProtocols: ['h2'],
            checkServerIdentity: () => undefined,
          })
    await once(socket, credential === undefined ? 'connect' : 'secureConnect')
    if (credential !== undefined && !(socket as TLSSocket).authorized)
      throw new Error(`TLS: ${(socket as TLSSocket).authorizationError}`)
    return new Sidecar(index, socket, {
      onResponse: (sidecar, response) => this.#onResponse(sidecar, response),
      onResource: (sidecar, name, version) => this.#onResource(sidecar, name, version),
      onEnd: (_, why) => this.#fail(new Error(`sidecar ${index}: ${why}`)),
    })
  }

  /**
   * Opens every stream and asks as a sidecar does: clusters and listeners at once, the endpoints of all clusters by name after
   * them. The first one goes ahead, and the names that it learns are those of all. Resolves when the last one has everything.
   */
  async subscribe(services: number): Promise<void> {
    const [first, ...others] = this.#sidecars
    if (first === undefined) return
    let names: string[] = []
    const clusters: string[] = []
    this.#onResource = (_, name) => names.push(name)
    first.namesUpTo = Number.POSITIVE_INFINITY
    await this.#complete([first], services, clusters, (type) => {
      if (type === TYPE.cluster) clusters.push(...names)
      names = []
    })
    first.namesUpTo = 0
    this.#onResource = () => {}
    await this.#complete(others, services, clusters)
    this.#onResponse = () => {}
  }

  #complete(
    sidecars: readonly Sidecar[],
    services: number,
    clusters: readonly string[],
    learn: (type: string) => void = () => {},
  ): Promise<void> {
    if (sidecars.length === 0) return Promise.resolve()
    const left = new Map(sidecars.map((sidecar) => [sidecar, new Map<string, number>()]))
    let endpoints: Buffer | undefined
    return new Promise((resolve, reject) => {
      this.#fail = reject
      this.#onResponse = (sidecar, { type, resources }) => {
        learn(type)
        const has = left.get(sidecar)
        if (has === undefined) return
        const count = (has.get(type) ?? 0) + resources
        has.set(type, count)
        if (type === TYPE.cluster && count === services) {
          endpoints ??= this.#request(TYPE.endpoints, clusters)
          sidecar.send(endpoints)
        }
        const all = [TYPE.cluster, TYPE.endpoints, TYPE.listener]
        if (all.every((each) => (has.get(each) ?? 0) >= services) && left.delete(sidecar) && left.size === 0)
          resolve()
      }
      for (const sidecar of sidecars) {
        sidecar.open()
        sidecar.send(Buffer.concat([this.#node(sidecar.index), this.#request(TYPE.cluster, [])]))
        sidecar.send(this.#request(TYPE.listener, []))
      }
    })
  }

  /** Resolves with the time (performance.now) at which each change had come to the first and to the last sidecar, by name. */
  arrivals(
    names: readonly string[],
    namesUpTo = 65_536,
  ): Promise<ReadonlyMap<string, { first: number; last: number }>> {
    const seen = new Map(
      names.map((name) => [name, { left: new Uint8Array(this.size), count: 0, first: 0, last: 0 }]),
    )
    let waiting = names.length
    for (const sidecar of this.#sidecars) sidecar.namesUpTo = namesUpTo
    return new Promise((resolve, reject) => {
      this.#fail = reject
      let current: string[] = []
      this.#onResource = (_, name) => current.push(name)
      this.#onResponse = (sidecar, { type }) => {
        const now = performance.now()
        for (const name of type === TYPE.endpoints ? current : []) {
          const one = seen.get(name)
          if (one === undefined || one.left[sidecar.index] === 1) continue
          one.left[sidecar.index] = 1
          if (one.count++ === 0) one.first = now
          one.last = now
          if (one.count === this.size && --waiting === 0)
            resolve(new Map([...seen].map(([key, { first, last }]) => [key, { first, last }])))
        }
        current = []
      }
    })
  }

  close(): void {
    for (const sidecar of this.#sidecars) sidecar.close()
    this.#sidecars = []
  }

  #request(type: string, names: readonly string[]): Buffer {
    return Buffer.concat([field(2, type), ...names.map((name) => field(3, name))])
  }

  #node(index: number): Buffer {
    const { namespace, userAgent } = this.#options
    const id = `sidecar~10.0.0.1~pod-${index}.${namespace}~${namespace}.svc.cluster.local`
    return field(1, Buffer.concat([field(1, id), field(2, 'bench'), field(6, userAgent)]))
  }
}
