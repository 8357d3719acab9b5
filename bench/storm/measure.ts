// A storm over quiet flows, for one target or several in turn: others may call it with targets of their own.
import { type ChildProcess, fork } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { constants, setPriority } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { findRuntime } from '../../src/cli/runtime.ts'
import { cpuMicroseconds } from '../process-stats.ts'
import type { Target } from '../targets.ts'
import type { Flow, FlowResult } from './client.ts'

const client = join(dirname(fileURLToPath(import.meta.url)), 'client.ts')

export interface StormPlan {
  readonly seconds: number
  /** Requests a second on the quiet flows, and how many connections they are spread over. */
  readonly quietRate: number
  readonly quietConnections: number
  /** New connections a second, and how many may be under way. */
  readonly stormRate: number
  readonly stormConnections: number
}

type Who = Pick<Flow, 'host' | 'servername' | 'certificatePem' | 'privateKeyPem' | 'caPem'>

export interface StormRound {
  readonly quiet: FlowResult
  readonly during: FlowResult
  /** The same past the target, beside the same storm: what is not the target's doing. */
  readonly direct: FlowResult
  readonly storm: FlowResult
  /** While the storm lasted. */
  readonly target: {
    /** Share of a core. */
    readonly busy: number
    /** CPU for each new connection of the storm, that of the quiet requests in it, microseconds. */
    readonly cpuUs: number
  }
}

/** The storm is on when the quiet flows are looked at, and until after they are. */
const LEAD_MS = 500

export class StormHarness {
  readonly #who: Who
  readonly #quiet: ChildProcess
  readonly #storm: ChildProcess

  constructor(who: Who) {
    this.#who = who
    this.#quiet = fork(client)
    // A client's handshake costs as much as a server's: the cheaper runtime makes the bigger storm.
    const bun = findRuntime('bun')
    this.#storm = bun.ok ? fork(client, { execPath: bun.value.file, execArgv: [] }) : fork(client)
  }

  /** Before whatever else runs on this machine; the storm after those whose latency is looked at. Call it again when threads were added. */
  arrange(targets: readonly Target[], backendPid: number): void {
    for (const pid of [...targets.map(({ pid }) => pid), this.#quiet.pid, backendPid])
      setPriorityOfThreads(pid ?? 0, constants.priority.PRIORITY_HIGHEST)
    setPriorityOfThreads(this.#storm.pid ?? 0, constants.priority.PRIORITY_HIGH)
  }

  async round(target: Target, backendPort: number, plan: StormPlan): Promise<StormRound> {
    const quietFlow: Flow = {
      ...{ ...this.#who, kind: 'quiet', port: target.port, seconds: plan.seconds },
      ...{ rate: plan.quietRate, connections: plan.quietConnections },
    }
    const stormFlow: Flow = {
      ...{ ...quietFlow, kind: 'storm', seconds: 2 * plan.seconds + (2 * LEAD_MS) / 1_000 },
      ...{ rate: plan.stormRate, connections: plan.stormConnections },
    }
    const quiet = await drive(this.#quiet, quietFlow)
    const cpu = cpuMicroseconds(target.pid)
    const from = performance.now()
    const storm = drive(this.#storm, stormFlow)
    await new Promise((resolve) => setTimeout(resolve, LEAD_MS))
    const during = await drive(this.#quiet, quietFlow)
    const direct = await drive(this.#quiet, { ...quietFlow, direct: true, port: backendPort })
    const over = await storm
    const spent = cpuMicroseconds(target.pid) - cpu
    const busy = spent / ((performance.now() - from) * 1_000)
    return { quiet, during, direct, storm: over, target: { busy, cpuUs: spent / over.done } }
  }

  stop(): void {
    this.#quiet.disconnect()
    this.#storm.disconnect()
  }
}

/** `setpriority` is of a thread, whatever it is called. */
function setPriorityOfThreads(pid: number, priority: number): void {
  for (const thread of readdirSync(`/proc/${pid}/task`)) {
    try {
      setPriority(Number(thread), priority)
    } catch {
      // It has ended, or this user may not: then the machine has to be quiet by itself.
    }
  }
}

function drive(child: ChildProcess, flow: Flow): Promise<FlowResult> {
  return new Promise((resolve, reject) => {
    const gone = (): void => reject(new Error('a client of the storm benchmark ended'))
    child.once('exit', gone)
    child.once('message', (answer: { result: FlowResult }) => {
      child.off('exit', gone)
      resolve(answer.result)
    })
    child.send(flow)
  })
}
