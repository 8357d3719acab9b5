// Processes that die, and processes that stand still.
import { becomes } from './becomes.ts'
import { type During, type Fault, lasts, must } from './fault.ts'
import { PRODUCTPAGE } from './resources.ts'
import { signalIfThere, type World } from './world.ts'

const standsStill = (who: 'supervisor' | 'workers', ms: number): Fault => ({
  name: `${who === 'workers' ? 'both workers stand' : 'supervisor stands'} still for ${ms} ms (SIGSTOP)`,
  costs: 'nothing',
  chaos: who,
  async begin(world, { end }) {
    const pids = who === 'workers' ? await world.workers() : [await world.supervisor()]
    end(() => pids.map((pid) => signalIfThere(pid, 'SIGCONT')))
    for (const pid of pids) signalIfThere(pid, 'SIGSTOP')
    await lasts(ms)
  },
})

/** Kills the first so many and waits for their successors to serve. */
async function killWorkers(world: World, during: During, count: number): Promise<void> {
  const from = world.pod.lines.length
  for (const pid of (await world.workers()).slice(0, count)) signalIfThere(pid, 'SIGKILL')
  during.over()
  await world.said(from, /"name":"gateway".*"msg":"ready"/, count)
}

async function killSupervisor(world: World, during: During): Promise<void> {
  const from = world.pod.lines.length
  signalIfThere(await world.supervisor(), 'SIGKILL')
  during.over()
  await world.said(from, /"name":"supervisor".*"msg":"ready"/)
}

export const PROCESS_FAULTS: readonly Fault[] = [
  {
    name: 'one of two workers killed (SIGKILL)',
    costs: 'some',
    chaos: 'workers',
    begin: (world, during) => killWorkers(world, during, 1),
  },
  {
    name: 'both workers killed (SIGKILL)',
    costs: 'some',
    begin: (world, during) => killWorkers(world, during, 2),
  },
  standsStill('workers', 1_000),
  {
    name: 'supervisor and workers replaced (SIGHUP)',
    costs: 'nothing',
    async begin(world) {
      const from = world.pod.lines.length
      world.pod.process.kill('SIGHUP')
      await world.said(from, /all replaced/)
    },
  },
  {
    name: 'supervisor killed (SIGKILL)',
    costs: 'nothing',
    chaos: 'supervisor',
    begin: killSupervisor,
  },
  standsStill('supervisor', 1_500),
  {
    name: 'launcher stands still for 1000 ms (SIGSTOP)',
    costs: 'nothing',
    nodeOnly: true,
    async begin({ pod }, { end }) {
      end(() => pod.process.kill('SIGCONT'))
      pod.process.kill('SIGSTOP')
      await lasts(1_000)
    },
  },
  {
    name: 'launcher killed (SIGKILL), pod started again',
    costs: 'some',
    async begin(world, { end, over }) {
      end(() => world.startPod())
      over()
      const children = [await world.supervisor(), ...(await world.workers())]
      world.pod.process.kill('SIGKILL')
      await becomes('its processes end with it', 5_000, () => children.every((pid) => !isThere(pid)))
    },
  },
  {
    name: 'whole pod killed and started again while discovery is dead',
    costs: 'some',
    async begin(world, { note, end, over }) {
      end(() => world.discovery.start())
      await world.discovery.kill()
      over()
      world.pod.process.kill('SIGKILL')
      await world.pod.exit
      const begun = Date.now()
      await world.startPod()
      await world.load.whole(begun, 20_000)
      note(`served from its snapshot ${Date.now() - begun} ms after its start`)
    },
  },
  {
    name: 'discovery killed (SIGKILL), started again after 1000 ms',
    costs: 'nothing',
    nodeOnly: true,
    chaos: 'discovery',
    async begin(world, { end }) {
      end(() => world.discovery.start())
      await world.discovery.kill()
      await lasts(1_000)
    },
  },
  {
    name: 'discovery stands still for 1500 ms (SIGSTOP)',
    costs: 'nothing',
    nodeOnly: true,
    async begin({ discovery }, { end }) {
      end(() => discovery.signal('SIGCONT'))
      discovery.signal('SIGSTOP')
      await lasts(1_500)
    },
  },
  {
    name: 'supervisor killed while discovery is dead',
    costs: 'nothing',
    nodeOnly: true,
    async begin(world, during) {
      during.end(() => world.discovery.start())
      await world.discovery.kill()
      await killSupervisor(world, during)
    },
  },
  {
    name: 'both workers killed while discovery is dead',
    costs: 'some',
    async begin(world, during) {
      during.end(() => world.discovery.start())
      await world.discovery.kill()
      await killWorkers(world, during, 2)
      await world.load.whole(Date.now(), 10_000)
    },
  },
  {
    name: 'a service of two killed (SIGKILL): only its own connections end',
    costs: 'some',
    async begin(world, { note, end }) {
      end(() => world.services.a.start())
      await world.services.a.kill()
      const target = { name: '', ...world.target, serverName: PRODUCTPAGE }
      const lost = (await Promise.all(Array.from({ length: 20 }, () => world.load.call(target)))).filter(
        Boolean,
      )
      must(lost.length === 0, `${lost.length} of 20 new calls were not sent to the other: ${lost[0]}`)
      note('20 new calls went to the other')
    },
  },
  {
    name: 'both services stand still for 1000 ms (SIGSTOP)',
    costs: 'nothing',
    async begin({ services: { a, b } }, { end }) {
      end(() => [a, b].map((service) => service.signal('SIGCONT')))
      for (const service of [a, b]) service.signal('SIGSTOP')
      await lasts(1_000)
    },
  },
]

function isThere(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}
