// What runs out: descriptors, disk, ports, memory; a reader of the log; and time.
import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { TYPE } from '../../src/xds/types.ts'
import { endpoints, upstream } from '../proxy/support.ts'
import { becomes } from './becomes.ts'
import { type Fault, lasts, must } from './fault.ts'
import { ours } from './network.ts'
import { PRODUCTPAGE } from './resources.ts'
import { footprint, type World } from './world.ts'

const HOUR_MS = 3_600_000

export const LIMIT_FAULTS: readonly Fault[] = [
  {
    name: 'descriptors used up (EMFILE): 60 connections too many',
    costs: 'new',
    chaos: 'workers',
    async begin(world, { note, end }) {
      for (const pid of await world.workers()) {
        const before = softLimit(pid)
        end(() => setSoftLimit(pid, before))
        setSoftLimit(pid, footprint(pid).descriptors + 6)
      }
      const surplus = await Promise.all(Array.from({ length: 60 }, () => knock(world)))
      end(() => surplus.map((socket) => socket.destroy()))
      const begun = Date.now()
      await lasts(700)
      must(
        world.load.flowingSince(begun) === world.load.flows,
        'a flow stood still while descriptors were used up',
      )
      note(`${surplus.filter(({ destroyed }) => destroyed).length} of 60 were refused`)
    },
  },
  {
    name: 'disk full (ENOSPC): the snapshot cannot be written',
    costs: 'nothing',
    nodeOnly: true,
    async begin(world, { note, end }) {
      let healedAt = 0
      end(() => {
        healedAt = world.pod.lines.length
        world.disk.free()
      })
      end(() => world.said(healedAt, /the snapshot is saved again/))
      world.disk.fill()
      const from = world.pod.lines.length
      await addService(world, 'full')
      await world.said(from, /the snapshot could not be saved/)
      note('said in the log; the change was in force all the same')
    },
  },
  {
    name: 'ephemeral ports used up between gateway and services',
    costs: 'new',
    async begin(world, { end }) {
      end(() => world.network.localPorts(32_768, 60_999))
      world.network.localPorts(61_000, 61_001)
      await lasts(1_200)
    },
  },
  {
    name: 'nobody reads the log (600 connections are logged)',
    costs: 'nothing',
    async begin(world, { end }) {
      const { stdout } = world.pod.process
      end(() => stdout?.resume())
      stdout?.pause()
      const begun = Date.now()
      for (let i = 0; i < 60; i += 1)
        await Promise.all(Array.from({ length: 10 }, () => knock(world).then((socket) => socket.destroy())))
      const flowing = Date.now()
      await lasts(500)
      must(
        world.load.flowingSince(flowing) === world.load.flows,
        'a flow stood still while nobody read the log',
      )
      must(begun > 0, '')
    },
  },
  {
    name: 'clock set 40 days on: certificates have ended',
    costs: 'some',
    async begin(world, { note, end }) {
      end(() => world.setClock(0))
      const begun = Date.now()
      world.setClock(40 * 24 * HOUR_MS)
      const ms = await becomes('every open connection is cut', 3_000, () => world.load.keptSince(begun) === 0)
      note(`every open connection was cut within ${ms} ms`)
      const { opened } = world.load.tally
      const target = { name: '', ...world.target, serverName: PRODUCTPAGE }
      const answers = await Promise.all(Array.from({ length: 10 }, () => world.load.call(target)))
      must(opened >= 0 && answers.every((failure) => failure !== undefined), 'a new connection was let in')
    },
  },
  {
    name: 'clock set back by an hour, and a change of the policy meanwhile',
    costs: 'nothing',
    async begin(world, { end }) {
      end(() => world.setClock(0))
      world.setClock(-HOUR_MS)
      await lasts(300)
      await world.policy(['spiffe://cluster-1.example/ns/bookinfo/', 'spiffe://cluster-1.example/ns/admin/'])
      await lasts(1_200)
    },
  },
  {
    name: 'clock jumps to and fro by 3 minutes',
    costs: 'nothing',
    chaos: 'clock',
    async begin(world, { end }) {
      end(() => world.setClock(0))
      for (const minutes of [3, -3, 3, 0]) {
        world.setClock(minutes * 60_000)
        await lasts(200)
      }
    },
  },
]

function softLimit(pid: number): string {
  const limits = readFileSync(`/proc/${pid}/limits`, 'utf8')
  return /Max open files\s+(\d+)/.exec(limits)?.[1] ?? 'unlimited'
}

/** How many descriptors the process may have from now on. */
function setSoftLimit(pid: number, limit: number | string): void {
  execFileSync('prlimit', ['--pid', String(pid), `--nofile=${limit}:`])
}

/** Why a memory limit is not among the faults of this machine; undefined where it could be. */
export function memoryLimitUnavailable(): string {
  const v2 = existsSync('/sys/fs/cgroup/cgroup.controllers')
  return v2
    ? 'a memory limit needs a cgroup that is ours to divide; the bound of memory per connection is measured instead'
    : 'there is no cgroup v2 here; the bound of memory per connection is measured instead'
}

/** A TCP connection that says nothing; resolves when it is there or has failed. */
function knock(world: World): Promise<Socket> {
  return new Promise((resolve) => {
    const socket = connect(world.target)
    socket.on('error', () => {}).on('close', () => resolve(socket))
    socket.on('connect', () => resolve(socket))
  })
}

/** A service more. Resolves when the gateway knows it. */
async function addService(world: World, service: string): Promise<void> {
  const name = `outbound_.9080_._.${service}.bookinfo.svc.cluster.local`
  await world.discovery.put(
    TYPE.endpoints,
    endpoints(name, [{ host: ours('services'), port: world.services.b.port }]),
  )
  await world.discovery.put(TYPE.cluster, upstream(name))
}
