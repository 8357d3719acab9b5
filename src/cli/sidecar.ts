import type { Command } from 'commander'
import { launchProxy } from './launch-proxy.ts'
import { proxyCommand, validatable } from './proxy-options.ts'

/** `isthmus sidecar`: the calling side. */
export function command(): Command {
  const about =
    'a DNS name and a loopback listener for each service, mutual TLS to the gateways of other clusters'
  return validatable(proxyCommand('sidecar', about, 'sidecar')).action((_flags, command: Command) =>
    launchProxy('sidecar', command),
  )
}
