import type { Command } from 'commander'
import { launch } from '../proxy/process/launcher.ts'
import { EXIT_USAGE, flagsOf, type ProxyKind, proxyConfig } from './proxy-options.ts'
import { findRuntime } from './runtime.ts'

/** Checks the flags once, here, then hands them to supervisor and workers; ends with the launcher's exit code. */
export async function launchProxy(kind: ProxyKind, command: Command): Promise<void> {
  const config = proxyConfig(kind, command)
  const runtime = findRuntime(config.runtime)
  if (!runtime.ok) {
    process.stderr.write(`isthmus ${kind}: --runtime: ${runtime.error}\n`)
    process.exit(EXIT_USAGE)
  }
  const entry = process.argv[1] ?? ''
  const flags = flagsOf(command)
  const code = await launch({
    workers: config.workers,
    listen: config.listen,
    drainMs: config.drainDelayMs + config.drainMs,
    program: (child) => {
      const { file, argv } =
        child === 'worker' ? runtime.value : { file: process.execPath, argv: process.execArgv }
      const options = child === 'worker' ? config.runtimeFlags : []
      return { file, argv: [...argv, ...options, entry, child, kind, ...flags] }
    },
  })
  process.exit(code)
}
