import type { Command } from 'commander'
import { launch } from '../proxy/process/launcher.ts'
import { checkedBootstrap, listenAddresses, temporaryRunDirectory } from './config-file.ts'
import { EXIT_USAGE, flagsOf, type ProxyConfig, type ProxyKind, proxyConfig } from './proxy-options.ts'
import { findRuntime } from './runtime.ts'

/** Checks the flags once, here, then hands them to supervisor and workers; ends with the launcher's exit code. */
export async function launchProxy(kind: ProxyKind, command: Command): Promise<void> {
  const config = withBootstrap(kind, command, proxyConfig(kind, command))
  const runtime = findRuntime(config.runtime)
  if (!runtime.ok) {
    process.stderr.write(`isthmus ${kind}: --runtime: ${runtime.error}\n`)
    process.exit(EXIT_USAGE)
  }
  const entry = process.argv[1] ?? ''
  // The last one counts.
  const flags = [...flagsOf(command), `--run-dir=${config.runDirectory || temporaryRunDirectory()}`]
  const code = await launch({
    workers: config.workers,
    listen: config.listen,
    drainMs: config.drainDelayMs + config.drainMs,
    program: (child) => {
      const { file, argv, env } =
        child === 'worker' ? runtime.value : { file: process.execPath, argv: process.execArgv, env: {} }
      const options = child === 'worker' ? config.runtimeFlags : []
      return { file, env, argv: [...argv, ...options, entry, child, kind, ...flags] }
    },
  })
  process.exit(code)
}

/** What a bootstrap says itself, once it is found good; with `--validate` that is all there is to do. */
function withBootstrap(kind: ProxyKind, command: Command, config: ProxyConfig): ProxyConfig {
  const { file } = config
  const { validate } = command.opts<{ validate?: boolean }>()
  if (file === '' && validate === true) {
    process.stderr.write(`isthmus ${kind}: --validate: needs --config\n`)
    process.exit(EXIT_USAGE)
  }
  if (file === '') return config
  const bootstrap = checkedBootstrap(`isthmus ${kind}`, file)
  if (validate === true) {
    process.stdout.write(`configuration '${file}' OK\n`)
    process.exit(0)
  }
  return { ...config, listen: listenAddresses(bootstrap) }
}
