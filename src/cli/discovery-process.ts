import { GatewayLifecycle } from '../controllers/gateway-lifecycle.ts'
import type { GatewayPodOptions } from '../controllers/gateway-manifests.ts'
import { ServiceEntryWriter } from '../controllers/service-entry-writer.ts'
import { StatusWriter } from '../controllers/status-writer.ts'
import { Discovery, type DiscoveryOptions } from '../discovery/discovery.ts'
import type { Problem } from '../lib/result.ts'
import { rememberTransition } from '../model/remembered-transition.ts'
import { parseHostPort } from './admin-request.ts'

export interface DiscoveryProcessOptions extends DiscoveryOptions {
  readonly pods: GatewayPodOptions
}

/** Discovery and the controllers that act on what it finds: everything of `isthmus discovery` but its command line. */
export class DiscoveryProcess {
  readonly discovery: Discovery
  readonly #entries: ServiceEntryWriter
  readonly #gateways: GatewayLifecycle
  readonly #status: StatusWriter

  constructor(options: DiscoveryProcessOptions) {
    const { store, logger, clock, pods } = options
    const common = { store, logger, ...(clock === undefined ? {} : { clock }) }
    this.discovery = new Discovery({ door: doorOf(pods.discovery), ...options })
    this.#entries = new ServiceEntryWriter(common)
    this.#gateways = new GatewayLifecycle({ ...common, pods })
    this.#status = new StatusWriter(common)
    this.discovery.onChange(() => this.#follow())
  }

  /** Call it once the store is synced. */
  async start(): Promise<void> {
    this.#gateways.start()
    await this.discovery.start()
  }

  async stop(): Promise<void> {
    await this.discovery.stop()
    await Promise.all([this.#entries.stop(), this.#gateways.stop(), this.#status.stop()])
  }

  problems(): readonly Problem[] {
    return [...this.discovery.problems(), ...this.#entries.problems(), ...this.#gateways.problems()]
  }

  /** `GET /status`. */
  status() {
    return { ...this.discovery.status(), problems: this.problems() }
  }

  #follow(): void {
    const { model } = this.discovery
    const desired = this.discovery.desiredEntries()
    if (model === undefined || desired === undefined) return
    this.#entries.set(desired)
    const networkChange = { cluster: model.self.id, remembered: rememberTransition(model.transition) }
    this.#status.set({ conditions: this.discovery.conditions(), gateways: model.gateways, networkChange })
  }
}

/** `host:port`, where the gateways find discovery. */
function doorOf(address: string): DiscoveryOptions['door'] {
  const at = parseHostPort(address)
  return at && { host: at.host, adsPort: at.port }
}
