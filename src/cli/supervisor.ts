import type { Command } from 'commander'
import { FederationFiles } from '../identity/federation-files.ts'
import { tellParent } from '../lib/lifeline.ts'
import { createUnhurriedLogger, type Logger } from '../lib/log.ts'
import { loadBootstrap } from '../proxy/process/bootstrap-file.ts'
import { ConfigSupervisor } from '../proxy/process/config-supervisor.ts'
import { prepareRunDirectory } from '../proxy/process/run-directory.ts'
import { Supervisor } from '../proxy/process/supervisor.ts'
import { openCredentials } from './credential-flags.ts'
import { ProxyAdmin } from './proxy-admin.ts'
import { proxyChildCommand } from './proxy-child.ts'
import { EXIT_USAGE, type ProxyConfig } from './proxy-options.ts'

/** `isthmus supervisor gateway|sidecar …`: started by the launcher. */
export function command(): Command {
  return proxyChildCommand('supervisor', supervise)
}

async function supervise(config: ProxyConfig): Promise<void> {
  // Sockets and files are ours alone from the first moment.
  process.umask(0o077)
  // A log that nobody reads must not keep health, admin and discovery waiting either.
  const { logger } = createUnhurriedLogger({
    name: 'supervisor',
    level: config.logLevel,
    cluster: config.cluster,
  })
  const folder = prepareRunDirectory(config.runDirectory)
  if (!folder.ok) {
    logger.error(`--run-dir: ${folder.error}`)
    process.exit(EXIT_USAGE)
  }
  const supervisor = config.file === '' ? discovered(config, logger) : configured(config, logger)
  const admin = new ProxyAdmin({ supervisor, config: adminOf(config), logger })
  // The launcher forwards what concerns us: a Ctrl-C goes to the whole process group.
  process.on('SIGINT', () => {})
  process.once('SIGTERM', async () => {
    await Promise.all([admin.close(), supervisor.stop()])
    process.exit(0)
  })
  process.on('SIGUSR2', async () => {
    logger.info({ withdrawn: await supervisor.withdraw() }, 'withdrawn')
    tellParent({ notice: 'withdrawn' })
  })
  try {
    await supervisor.start()
  } catch (error) {
    // Another supervisor has our sockets, perhaps one that is about to end: the launcher tries again.
    logger.error(`--run-dir: ${(error as Error).message}`)
    process.exit(1)
  }
  logger.info(await admin.start(), 'ready')
  tellParent({ notice: 'serving' })
}

function discovered(config: ProxyConfig, logger: Logger): Supervisor {
  return new Supervisor({
    node: config.node,
    nameTable: config.kind === 'sidecar',
    discovery: config.discovery,
    credentials: openCredentials(config.credentials, { node: config.node, cluster: config.cluster, logger }),
    ...(config.federation !== '' && {
      federation: new FederationFiles({ directory: config.federation, logger }),
    }),
    runDirectory: config.runDirectory,
    allowLocalEndpoints: config.allowLocalEndpoints,
    snapshotMaxAgeMs: config.snapshotMaxAgeMs,
    logger,
  })
}

function configured(config: ProxyConfig, logger: Logger): ConfigSupervisor {
  return new ConfigSupervisor({
    file: config.file,
    nameTable: config.kind === 'sidecar',
    runDirectory: config.runDirectory,
    allowLocalEndpoints: config.allowLocalEndpoints,
    snapshotMaxAgeMs: config.snapshotMaxAgeMs,
    logger,
  })
}

/** An admin address in the bootstrap goes before the flag's default. */
function adminOf(config: ProxyConfig): ProxyConfig {
  if (config.file === '') return config
  const { config: bootstrap } = loadBootstrap(config.file)
  const admin = bootstrap.ok ? bootstrap.value.admin : undefined
  return admin === undefined ? config : { ...config, admin }
}
