import { isIP } from 'node:net'
import type { ImportedService, Model } from '../model/types.ts'

/** What host names resolve to, kept up to date by somebody else. */
export interface HostAddresses {
  /** Which names are asked for from now on. */
  watch(hosts: ReadonlySet<string>): void
  /** The last good answer, in one order; none: it has not resolved yet, or to nothing that may be called. */
  addresses(host: string): readonly string[]
  stop(): void
}

/**
 * Gateways that are known by a host name, as the load balancers of some clouds are, for clients whose EDS takes addresses alone: Envoys
 * and gRPC. Our own sidecar resolves names itself. What did not change is the same object.
 */
export class HostNames {
  readonly #hosts: HostAddresses | undefined
  readonly #made = new WeakMap<ImportedService, { readonly key: string; readonly service: ImportedService }>()

  constructor(hosts: HostAddresses | undefined) {
    this.#hosts = hosts
  }

  /** The model with the addresses that names have now, which are asked for from now on; names without any are left as they are. */
  resolve(model: Model): Model {
    this.#hosts?.watch(
      new Set(named(model).flatMap(({ endpoints }) => endpoints.map(({ address }) => address))),
    )
    return this.known(model)
  }

  /** The same, and nothing is asked for: what a model would be that is not in force. */
  known(model: Model): Model {
    const hosts = this.#hosts
    const some = hosts === undefined ? new Set() : new Set(named(model))
    if (hosts === undefined || some.size === 0) return model
    return {
      ...model,
      imports: model.imports.map((each) => (some.has(each) ? this.#resolved(each, hosts) : each)),
    }
  }

  stop(): void {
    this.#hosts?.stop()
  }

  #resolved(service: ImportedService, hosts: HostAddresses): ImportedService {
    const answers = service.endpoints.map(({ address }) =>
      isIP(address) === 0 ? hosts.addresses(address) : [],
    )
    const key = JSON.stringify(answers)
    const known = this.#made.get(service)
    if (known?.key === key) return known.service
    const endpoints = service.endpoints.flatMap((endpoint, i) => {
      const found = answers[i] ?? []
      return found.length === 0 ? [endpoint] : found.map((address) => ({ ...endpoint, address }))
    })
    const made = { ...service, endpoints }
    this.#made.set(service, { key, service: made })
    return made
  }
}

const named = ({ imports }: Model): ImportedService[] =>
  imports.filter(({ endpoints }) => endpoints.some(({ address }) => isIP(address) === 0))
