// A gateway may have another address for each network that calls it: a private one for the neighbours, a public one for the rest.
import { own } from '../lib/own.ts'
import type { ModelGateway } from './types.ts'

/** The same gateway gives the same object for one network, so that what is made from it is not made again. */
const known = new WeakMap<ModelGateway, Map<string, ModelGateway>>()

/** The gateway as clients on `network` find it; itself where it has no address of their own for them. */
export function gatewayFor(gateway: ModelGateway, network: string): ModelGateway {
  const special = gateway.forNetworks === undefined ? undefined : own(gateway.forNetworks, network)
  if (special === undefined) return gateway
  const made = known.get(gateway) ?? new Map<string, ModelGateway>()
  known.set(gateway, made)
  const found = made.get(network) ?? { ...gateway, ...special }
  made.set(network, found)
  return found
}

/** Whether clients of any network can find it. */
export function hasAddress({
  addresses,
  forNetworks = {},
}: Pick<ModelGateway, 'addresses' | 'forNetworks'>): boolean {
  return addresses.length > 0 || Object.values(forNetworks).some((special) => special.addresses.length > 0)
}

/** `203.0.113.7 port 15443, for network vpc-1 10.0.0.7 port 15443`. */
export function describeAddresses({
  addresses,
  forNetworks = {},
}: Pick<ModelGateway, 'addresses' | 'forNetworks'>): string {
  const list = (some: ModelGateway['addresses']) =>
    some.map(({ address, port }) => `${address} port ${port}`).join(', ')
  const special = Object.entries(forNetworks).map(
    ([network, each]) => `for network ${network} ${list(each.addresses) || 'none'}`,
  )
  return [...(addresses.length > 0 ? [list(addresses)] : []), ...special].join(', ')
}
