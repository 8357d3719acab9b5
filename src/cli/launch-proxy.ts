import type { Command } from 'commander'
import { launch } from '../proxy/process/launcher.ts'
import { flagsOf, type ProxyKind, proxyConfig } from './proxy-options.ts'

/** Checks the flags once, here, then hands them to supervisor and worker; ends with the launcher's exit code. */
export async function launchProxy(kind: ProxyKind, command: Command): Promise<void> {
  const { drainMs } = proxyConfig(kind, command)
  const entry = process.argv[1] ?? ''
  const flags = flagsOf(command)
  process.exit(
    await launch({ drainMs, argv: (child) => [...process.execArgv, entry, child, kind, ...flags] }),
  )
}
