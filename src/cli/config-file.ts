import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { formatProblem } from '../lib/result.ts'
import type { Authority } from '../proxy/names/authority.ts'
import { loadBootstrap } from '../proxy/process/bootstrap-file.ts'
import { acceptListener } from '../resources/accept-listener.ts'
import type { BootstrapConfig } from '../resources/bootstrap/bootstrap.ts'
import { TYPE } from '../xds/types.ts'
import { EXIT_USAGE } from './proxy-options.ts'

/** Reads the bootstrap of a start; ends with 64 and a line for each mistake where it is not good. */
export function checkedBootstrap(command: string, file: string): BootstrapConfig {
  const { config } = loadBootstrap(file)
  if (config.ok) return config.value
  for (const one of config.error) process.stderr.write(`${command}: --config: ${formatProblem(one)}\n`)
  return process.exit(EXIT_USAGE)
}

/** What the static listeners listen on: for the launcher to hold. A port that the system chooses is not known before. */
export function listenAddresses(config: BootstrapConfig): readonly Authority[] {
  const listeners = [...(config.resources.get(TYPE.listener)?.values() ?? [])]
  return listeners.flatMap((resource) => {
    const listener = acceptListener(resource)
    return listener.ok && listener.value.address.port !== 0 ? [listener.value.address] : []
  })
}

/** A run folder for somebody who names none: gone with the process. */
export function temporaryRunDirectory(): string {
  const folder = mkdtempSync(join(tmpdir(), 'isthmus-'))
  process.on('exit', () => rmSync(folder, { recursive: true, force: true }))
  return folder
}
