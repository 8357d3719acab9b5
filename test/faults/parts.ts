// The parts of the faults' world that are processes of their own: services, wires, discovery.
import type { XdsResource } from '../../src/xds/types.ts'
import type { BackendMessage, BackendOptions } from './backend-main.ts'
import { Child, Orders } from './child.ts'
import type { DiscoveryAnswer, DiscoveryOptions } from './discovery-main.ts'
import type { RelayAnswer, RelayOptions, RelayOrder } from './relay-main.ts'

/** A service that echoes. */
export class Backend {
  readonly #options: BackendOptions
  readonly #onViolation: (what: string) => void
  #child!: Child<BackendMessage>
  #port: number
  #open: ((count: number) => void) | undefined

  private constructor(options: BackendOptions, onViolation: (what: string) => void) {
    this.#options = options
    this.#port = options.port
    this.#onViolation = onViolation
  }

  static async start(host: string, onViolation: (what: string) => void, forbidden = false): Promise<Backend> {
    const backend = new Backend({ host, port: 0, forbidden }, onViolation)
    await backend.start()
    return backend
  }

  get port(): number {
    return this.#port
  }

  /** On the same port again after `kill`. */
  start(): Promise<void> {
    return new Promise((resolve) => {
      this.#child = new Child('backend-main.ts', { ...this.#options, port: this.#port }, (message) => {
        if ('violation' in message) this.#onViolation(message.violation)
        else if ('open' in message) this.#open?.(message.open)
        else {
          this.#port = message.listening
          resolve()
        }
      })
    })
  }

  /** How many connections it has. */
  open(): Promise<number> {
    return new Promise((resolve) => {
      this.#open = resolve
      this.#child.send({})
    })
  }

  signal(signal: NodeJS.Signals): void {
    this.#child.signal(signal)
  }

  kill(): Promise<void> {
    return this.#child.kill()
  }
}

/** A wire that can fail. */
export class Relay {
  readonly #child: Child<RelayAnswer>
  readonly #orders = new Orders()
  #port = 0

  private constructor(options: RelayOptions, listening: () => void) {
    this.#child = new Child('relay-main.ts', options, ({ done, port }) => {
      this.#port = port
      if (done === 0) listening()
      else this.#orders.done(done)
    })
  }

  static start(options: RelayOptions): Promise<Relay> {
    return new Promise((resolve) => {
      const relay = new Relay(options, () => resolve(relay))
    })
  }

  get port(): number {
    return this.#port
  }

  /** Resolves once the order is carried out. */
  order(order: RelayOrder): Promise<void> {
    return this.#orders.give((id) => this.#child.send({ id, order }))
  }

  kill(): Promise<void> {
    return this.#child.kill()
  }
}

/** Discovery, which keeps what it is to serve over its own deaths. */
export class Discovery {
  readonly #options: Omit<DiscoveryOptions, 'port'>
  readonly #resources = new Map<string, Map<string, XdsResource>>()
  readonly #orders = new Orders()
  #child!: Child<DiscoveryAnswer>
  #address = ''

  constructor(options: Omit<DiscoveryOptions, 'port'>) {
    this.#options = options
  }

  get address(): string {
    return this.#address
  }

  async start(): Promise<void> {
    const port = Number(this.#address.split(':').at(-1) || 0)
    await new Promise<void>((resolve) => {
      this.#child = new Child('discovery-main.ts', { ...this.#options, port }, ({ done, address }) => {
        if (address !== `${this.#options.host}:0`) this.#address = address
        if (done === 0) resolve()
        else this.#orders.done(done)
      })
      this.#child.process.once('exit', () => {
        this.#orders.abandon()
        resolve()
      })
    })
    for (const typeUrl of this.#resources.keys()) await this.#send(typeUrl)
    await this.#send('')
  }

  /** Adds or replaces resources of one type; resolves when the server has them, not when anybody was told. */
  async put(typeUrl: string, ...resources: XdsResource[]): Promise<void> {
    const ofType = this.#resources.get(typeUrl) ?? new Map<string, XdsResource>()
    for (const resource of resources) ofType.set(resource.name, resource)
    this.#resources.set(typeUrl, ofType)
    if (this.#address !== '') await this.#send(typeUrl)
  }

  async remove(typeUrl: string, name: string): Promise<void> {
    this.#resources.get(typeUrl)?.delete(name)
    await this.#send(typeUrl)
  }

  signal(signal: NodeJS.Signals): void {
    this.#child.signal(signal)
  }

  kill(): Promise<void> {
    return this.#child.kill()
  }

  /** While it is dead there is nobody to send to: it is told all of it when it starts. */
  async #send(typeUrl: string): Promise<void> {
    if (!this.#child.connected) return
    const resources = [...(this.#resources.get(typeUrl)?.values() ?? [])]
    await this.#orders.give((id) => this.#child.send({ id, typeUrl, resources }))
  }
}
