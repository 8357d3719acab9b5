// One gateway: services come, one of their endpoints moves, and they go again, first on a quiet gateway, for its CPU, then under traffic.
import type { Target as Server } from '../discovery/target.ts'
import { cpuMicroseconds, residentBytes } from '../process-stats.ts'
import { eventually } from './eventually.ts'
import type { Gateway } from './gateways.ts'
import { addressOf, ENDPOINTS_PER_SERVICE, serverNameOf } from './objects.ts'
import type { World } from './world.ts'

export interface Plan {
  /** Services that are there all the time; even ones have traffic. */
  readonly base: number
  /** Services that come and go. */
  readonly services: number
  /** How long a change may be on its way through discovery, and how long traffic warms up, milliseconds. */
  readonly warmMs: number
}

/** Column → value. */
export type Row = (column: string, value: number) => void

const MB = 1024 * 1024
/**
 * Processes of which nobody used more than this share of a core are done. An Envoy is never still: its outlier detection has a timer for
 * each cluster.
 */
const QUIET_SHARE = { ours: 0.02, envoy: 0.25 } as const
const QUIET_MS = 300

export async function measure(
  world: World,
  server: Server,
  gateway: Gateway,
  plan: Plan,
  row: Row,
): Promise<readonly string[]> {
  const steps = new Steps(world, server, gateway, plan)
  await eventually(`${gateway.name} serves`, () => steps.leads(0))
  await quiet(gateway)
  row('worker MB before', residentBytes(gateway.worker) / MB)
  if (gateway.supervisor !== undefined) row('supervisor MB before', residentBytes(gateway.supervisor) / MB)

  await costs(
    gateway,
    'add',
    row,
    plan,
    () => steps.add(),
    () => steps.added(),
  )
  row('worker MB after', residentBytes(gateway.worker) / MB)
  if (gateway.supervisor !== undefined) row('supervisor MB after', residentBytes(gateway.supervisor) / MB)
  await steps.added()
  await quiet(gateway)
  await costs(
    gateway,
    'move',
    row,
    plan,
    () => steps.move(true),
    () => steps.moved(true),
  )
  await steps.moved(true)
  await quiet(gateway)
  await costs(
    gateway,
    'remove',
    row,
    plan,
    () => steps.remove(),
    () => steps.removed(),
  )
  await steps.removed()

  await world.startTraffic(gateway.port, steps.withTraffic)
  await pause(plan.warmMs)
  await gateway.loopDelay()
  await pause(plan.warmMs)
  await blocks(gateway, 'quiet', row)
  for (const [step, run] of [
    ['add', () => steps.add().then(() => steps.added())],
    ['move', () => steps.move(true).then(() => steps.moved(true))],
    ['remove', () => steps.remove().then(() => steps.removed())],
  ] as const) {
    const beganAt = performance.now()
    await run()
    row(`${step}: seen after ms`, performance.now() - beganAt)
    await settle(gateway)
    await blocks(gateway, step, row)
  }
  const { failures, failure, requests, connections, worstMs, p99Ms } = await world.stopTraffic()
  row('requests', requests)
  row('new connections', connections)
  row('failed', failures)
  row('request p99 ms', p99Ms)
  row('request worst ms', worstMs)
  return failures === 0 ? [] : [`${gateway.name}: ${failures} failures, the first: ${failure}`]
}

/** What happens, and how it is seen from outside that it has. */
class Steps {
  readonly #world: World
  readonly #server: Server
  readonly #gateway: Gateway
  readonly #plan: Plan

  constructor(world: World, server: Server, gateway: Gateway, plan: Plan) {
    this.#world = world
    this.#server = server
    this.#gateway = gateway
    this.#plan = plan
  }

  /** Server names of even services of the base. */
  get withTraffic(): string[] {
    return Array.from({ length: this.#plan.base / 2 }, (_, i) => serverNameOf(2 * i))
  }

  add(): Promise<void> {
    return this.#server.command('add', this.#plan.base, this.#plan.base + this.#plan.services)
  }

  added(): Promise<unknown> {
    return eventually('the last service is served', () => this.leads(this.#last))
  }

  /** The first endpoint of the last service that is called in clear moves away, or back. */
  move(away: boolean): Promise<void> {
    return this.#server.command('move', this.#last, away ? 1 : 0)
  }

  moved(away: boolean): Promise<unknown> {
    const now = addressOf(this.#last, away ? ENDPOINTS_PER_SERVICE : 0)
    return eventually('the endpoint has moved', async () => {
      const address = await this.#world.call(this.#gateway.port, serverNameOf(this.#last))
      return address === now ? true : undefined
    })
  }

  remove(): Promise<void> {
    return this.#server.command('remove', this.#plan.base, this.#plan.base + this.#plan.services)
  }

  removed(): Promise<unknown> {
    return eventually('the last service is gone', async () =>
      (await this.leads(this.#last)) === undefined ? true : undefined,
    )
  }

  async leads(index: number): Promise<true | undefined> {
    return (await this.#world.call(this.#gateway.port, serverNameOf(index))) === '' ? undefined : true
  }

  get #last(): number {
    return this.#plan.base + this.#plan.services - 2
  }
}

/** CPU until all is still again; nobody asks ours for anything meanwhile. */
async function costs(
  gateway: Gateway,
  step: string,
  row: Row,
  { warmMs }: Plan,
  run: () => Promise<void>,
  seen: () => Promise<unknown>,
): Promise<void> {
  const before = cpuOf(gateway)
  await run()
  await pause(warmMs)
  // An Envoy is never quite still, so it is asked; in thirty seconds that costs it some tens of milliseconds.
  if (gateway.supervisor === undefined) await seen()
  await quiet(gateway)
  const after = cpuOf(gateway)
  row(`${step}: worker CPU ms`, after.worker - before.worker)
  if (gateway.supervisor !== undefined)
    row(`${step}: supervisor CPU ms`, after.supervisor - before.supervisor)
}

async function blocks(gateway: Gateway, step: string, row: Row): Promise<void> {
  const delay = await gateway.loopDelay()
  if (delay === undefined) return
  row(`${step}: longest turn ms`, delay.longestMs)
  row(`${step}: longest turn CPU ms`, delay.longestCpuMs)
}

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))

function cpuOf({ worker, supervisor }: Gateway): { readonly worker: number; readonly supervisor: number } {
  return {
    worker: cpuMicroseconds(worker) / 1_000,
    supervisor: supervisor === undefined ? 0 : cpuMicroseconds(supervisor) / 1_000,
  }
}

/** Nothing is under way any more, neither in the worker nor in its supervisor, which may save a snapshot yet. */
async function quiet(gateway: Gateway): Promise<void> {
  await eventually(`${gateway.name} is quiet`, async () => {
    const before = cpuOf(gateway)
    await pause(QUIET_MS)
    const after = cpuOf(gateway)
    const most = Math.max(after.worker - before.worker, after.supervisor - before.supervisor)
    const share = gateway.supervisor === undefined ? QUIET_SHARE.envoy : QUIET_SHARE.ours
    return most < share * QUIET_MS ? true : undefined
  })
}

/** Under traffic nothing is ever quiet: the supervisor is, for it sees none of it. */
async function settle(gateway: Gateway): Promise<void> {
  if (gateway.supervisor === undefined) await pause(1_000)
  else await quiet({ ...gateway, worker: gateway.supervisor })
}
