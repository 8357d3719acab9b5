import { Command } from 'commander'
import { EXIT_USAGE, type ProxyConfig, type ProxyKind, proxyCommand, proxyConfig } from './proxy-options.ts'

/** A command that the launcher starts: the kind first, then that kind's flags. */
export function proxyChildCommand(name: string, run: (config: ProxyConfig) => Promise<void>): Command {
  const parent = new Command(`isthmus ${name}`).exitOverride(() => process.exit(EXIT_USAGE))
  for (const kind of ['gateway', 'sidecar'] as ProxyKind[]) {
    const child = proxyCommand(`${name} ${kind}`, `the ${name} of a ${kind}`, kind).name(kind)
    parent.addCommand(child.action((_flags, command: Command) => run(proxyConfig(kind, command))))
  }
  return parent
}
