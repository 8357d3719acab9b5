import type { Command } from 'commander'
import { launchProxy } from './launch-proxy.ts'
import { proxyCommand, validatable } from './proxy-options.ts'

/** `isthmus gateway`: the data plane pod of a serving cluster. */
export function command(): Command {
  const about = 'takes mutual TLS on 15443 and routes by SNI to the endpoints of exposed services'
  return validatable(proxyCommand('gateway', about, 'gateway')).action((_flags, command: Command) =>
    launchProxy('gateway', command),
  )
}
