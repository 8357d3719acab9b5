import type { WorkerHello } from './control.ts'

/** Who this process is, as its launcher told it in the environment: `ISTHMUS_SLOT` and `ISTHMUS_GENERATION`. */
export function workerIdentity(): WorkerHello {
  const { bun, node } = process.versions
  return {
    pid: process.pid,
    slot: Number(process.env['ISTHMUS_SLOT'] ?? 0),
    generation: Number(process.env['ISTHMUS_GENERATION'] ?? 1),
    ...(bun === undefined ? { runtime: 'node', version: node } : { runtime: 'bun', version: bun }),
  }
}
