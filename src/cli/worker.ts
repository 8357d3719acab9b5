import type { Command } from 'commander'
import { keepHeapSlack } from '../lib/heap-slack.ts'
import { tellParent } from '../lib/lifeline.ts'
import { createUnhurriedLogger } from '../lib/log.ts'
import { accessLogFormatter } from '../proxy/access-log-format.ts'
import { INHERITED_SOCKETS } from '../proxy/process/inherited-sockets.ts'
import { Worker } from '../proxy/process/worker.ts'
import { proxyChildCommand } from './proxy-child.ts'
import type { ProxyConfig } from './proxy-options.ts'

/** How long the end of the process may wait for the collector of spans. */
const LAST_SPANS_MS = 1_000

/** `isthmus worker gateway|sidecar …`: started by the launcher. */
export function command(): Command {
  return proxyChildCommand('worker', work)
}

async function work(config: ProxyConfig): Promise<void> {
  keepHeapSlack()
  // Nobody who reads our log slowly, or not at all, may stop traffic.
  const { kind: name, logLevel: level, cluster } = config
  const { logger, sink } = createUnhurriedLogger({ name, level, cluster })
  const format = accessLogFormatter(config.accessLog, { name, cluster })
  // Nobody pays for what he does not ask for.
  const exporter =
    config.otlp &&
    new (await import('../proxy/otlp-exporter.ts')).OtlpExporter({
      ...config.otlp,
      resource: { name, cluster },
      logger,
    })
  const worker = new Worker({
    name: config.kind,
    runDirectory: config.runDirectory,
    logger,
    revocation: config.revocation,
    allowLocalEndpoints: config.allowLocalEndpoints,
    logLinesDropped: () => sink.dropped,
    spans: exporter && (() => exporter.counts),
    accessLog: (entry) => {
      if (format !== undefined) sink.writeSoon(format(entry, Date.now()))
      exporter?.record(entry)
    },
    inherited: process.env[INHERITED_SOCKETS] ?? '',
    tell: tellParent,
    ...(config.names !== undefined && { nameServers: config.names }),
  })
  // Before the first listener there is nothing else that would keep the process alive.
  setInterval(() => {}, 3_600_000)
  process.on('SIGINT', () => {})
  let asked = false
  const leave = async (delayMs: number) => {
    if (asked) process.exit(1)
    asked = true
    await worker.drain(config.drainMs, delayMs)
    await worker.stop()
    await exporter?.close(LAST_SPANS_MS)
    process.exit(0)
  }
  process.on('SIGTERM', () => void leave(config.drainDelayMs))
  // Our successor serves: nobody has to hear that we are not ready before we stop accepting.
  process.on('SIGUSR2', () => void leave(0))
  worker.start()
}
