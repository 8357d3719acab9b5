import type { Clock } from '../../lib/clock.ts'
import type { XdsClient } from '../../xds/client.ts'
import { TYPE, type XdsResource } from '../../xds/types.ts'

/** Discovery gives up on slow clients before this; it is for a discovery that says nothing. */
const BOUND_MS = 3_000

/** Tells discovery that this gateway is about to stop, and waits until those who call it from elsewhere know. */
export class Withdrawal {
  readonly #clock: Clock
  #heard: (how: string) => void = () => {}

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** Resolves with how it went, within 3 s. Undefined: nobody elsewhere calls us. */
  ask(client: XdsClient | undefined): Promise<string> {
    if (client === undefined) return Promise.resolve('nobody is to be told')
    if (client.state.phase !== 'connected') return Promise.resolve('discovery cannot be reached')
    return new Promise((resolve) => {
      const cancel = this.#clock.after(BOUND_MS, () =>
        resolve(`discovery has not answered in ${BOUND_MS} ms`),
      )
      this.#heard = (how) => {
        cancel()
        resolve(how)
      }
      client.subscribe(TYPE.withdrawal, '*')
    })
  }

  /** What discovery says about it. */
  heard([answer]: readonly XdsResource[]): void {
    const how = answer === undefined ? 'discovery does not know how' : Buffer.from(answer.body).toString()
    if (how !== '') this.#heard(how)
  }
}
