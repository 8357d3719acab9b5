// A discovery server as a process, so that it can be killed and stopped. What it serves comes by messages of its parent.
import { loadCa } from '../../src/identity/ca-folder.ts'
import type { XdsResource } from '../../src/xds/types.ts'
import { TestDiscovery } from '../process/pod.ts'

export interface DiscoveryOptions {
  readonly host: string
  /** 0: a free one. */
  readonly port: number
  readonly caFolder: string
}

export type DiscoveryOrder = {
  readonly id: number
  readonly typeUrl: string
  readonly resources: readonly XdsResource[]
}
export type DiscoveryAnswer = { readonly done: number; readonly address: string }

process.on('disconnect', () => process.exit(0))
process.once('message', async (options: DiscoveryOptions) => {
  const ca = await loadCa(options.caFolder)
  if (!ca.ok) throw new Error(ca.error.message)
  const discovery = new TestDiscovery(ca.value, options.host, options.port)
  const answer = (done: number): void => {
    const message: DiscoveryAnswer = { done, address: discovery.address }
    if (process.connected) process.send?.(message, undefined, undefined, () => {})
  }
  let listening = false
  process.on('message', async ({ id, typeUrl, resources }: DiscoveryOrder) => {
    if (typeUrl !== '') discovery.put(typeUrl, ...resources)
    // Nobody is told anything before everything is known.
    if (typeUrl === '' && !listening) {
      listening = true
      await discovery.start()
    }
    answer(id)
  })
  answer(0)
})
