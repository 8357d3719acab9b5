// Our engine as a process: resources as JSON lines on standard input, endings as JSON lines on standard output. It ends with its
// input. Runs on Node and on Bun. The one argument is `EngineMainOptions` as JSON.
import { createInterface } from 'node:readline'
import v8, { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { SvidVerifier } from '../../src/identity/verify-svid.ts'
import { silentLogger } from '../../src/lib/log.ts'
import { Engine } from '../../src/proxy/engine.ts'
import type { XdsResource } from '../../src/xds/types.ts'
import type { EngineMainOptions, LiveObjects, ToEngine } from './engine-target.ts'
import { acceptEveryCertificate } from './unchecked.ts'

const options = JSON.parse(process.argv[2] ?? '{}') as EngineMainOptions
if (options.unchecked !== undefined) acceptEveryCertificate(SvidVerifier, options.unchecked)

const say = (message: object): void => {
  process.stdout.write(`${JSON.stringify(message)}\n`)
}
const engine = new Engine({
  name: 'target',
  logger: silentLogger,
  limits: options.limits ?? {},
  allowLocalEndpoints: true,
  accessLog: (entry) => say({ entry }),
})

const timer = setTimeout(() => {}, 0)
const Timer = timer.constructor
let turn = Promise.resolve()
const input = createInterface({ input: process.stdin })
input.on('line', (line) => {
  turn = turn.then(() => apply(JSON.parse(line) as ToEngine))
})
input.on('close', () => process.exit(0))

async function apply({ id, changes }: ToEngine): Promise<void> {
  if (changes.length === 0) collectGarbage()
  const live = changes.length === 0 ? await liveObjects() : undefined
  const problems = changes.flatMap(({ typeUrl, upserted, removed }) => {
    const resources = upserted.map(
      ({ body, ...rest }): XdsResource => ({ ...rest, body: Buffer.from(body, 'base64') }),
    )
    return engine.update(typeUrl, resources, removed)
  })
  const unbound = await engine.whenBound()
  const ports = Object.fromEntries(
    engine.status().listeners.map(({ name, address }) => [name, Number(address.split(':').at(-1))]),
  )
  say({ id, problems: [...problems, ...unbound], ports, memory: process.memoryUsage.rss(), live })
}

/** How many there are of what a connection is made of, when garbage is collected. */
async function liveObjects(): Promise<LiveObjects> {
  if (!('bun' in process.versions)) {
    const count = (made: object) =>
      v8.queryObjects(made as new () => object, { format: 'count' }) as unknown as number
    return {
      functions: count(Function),
      byteArrays: count(Uint8Array),
      timers: count(Timer),
      promises: count(Promise),
    }
  }
  const jsc = 'bun:jsc'
  const { heapStats } = (await import(jsc)) as { heapStats(): { objectTypeCounts: Record<string, number> } }
  const {
    Function: functions = 0,
    Uint8Array: byteArrays = 0,
    Timeout: timers = 0,
    Promise: promises = 0,
  } = heapStats().objectTypeCounts
  return { functions, byteArrays, timers, promises }
}

/** So that what is weighed is what is held. */
function collectGarbage(): void {
  const { Bun } = globalThis as { readonly Bun?: { gc(now: boolean): void } }
  if (Bun === undefined) {
    setFlagsFromString('--expose-gc')
    const collect = runInNewContext('gc') as () => void
    collect()
  } else {
    Bun.gc(true)
  }
}
