import type { Scene, Step } from './scene.ts'
import { prints, StepFailed, succeeds } from './stage.ts'
import { EVERY_SERVICE, EXPOSING_STEPS, entry, TITLE } from './steps-expose.ts'
import { FAILING_STEPS } from './steps-fail.ts'
import { FAILOVER_STEPS } from './steps-failover.ts'
import { LIMITING_STEPS } from './steps-limit.ts'
import type { ClusterName, World } from './world.ts'

export const STEPS: readonly Step[] = [
  ...EXPOSING_STEPS,
  ...LIMITING_STEPS,
  ...FAILOVER_STEPS,
  ...FAILING_STEPS,
]

const STARTUP_MS = 90_000
const SETTLED_MS = 60_000

/** Plays every step in order; resolves with how many did not come true. */
export async function playStory(scene: Scene): Promise<number> {
  let failed = 0
  for (const step of STEPS) {
    scene.stage.heading(step.id, step.title)
    try {
      await step.play(scene)
      scene.stage.good()
    } catch (error) {
      if (!(error instanceof StepFailed)) throw error
      scene.stage.bad(error.message)
      failed++
    }
  }
  return failed
}

/** Until bookinfo's pods run and every discovery server and sidecar is ready. */
export async function waitForWorld({ world, stage }: Scene): Promise<void> {
  for (const { name, config } of world.clusters) {
    const ready = (health: string) =>
      stage.see(name, `curl -s ${health}/readyz -o /dev/null -w '%{http_code}'`, prints(/^200$/), {
        quiet: true,
        withinMs: STARTUP_MS,
      })
    await ready(config.discovery.health)
    if (config.sidecar !== undefined) await ready(config.sidecar.health)
  }
  await allPodsReady(world)
}

function allPodsReady(world: World): Promise<void> {
  const missing = () =>
    world.clusters.filter(
      ({ name, state }) =>
        name !== 'cluster-3' && (state.pods.length === 0 || state.pods.some((pod) => !pod.ready)),
    )
  return new Promise((resolve, reject) => {
    const look = () => {
      if (missing().length > 0) return
      clearTimeout(timer)
      world.off('change', look)
      resolve()
    }
    const timer = setTimeout(() => {
      const pods = missing().flatMap(({ name, state }) =>
        state.pods.filter((pod) => !pod.ready).map((pod) => `${name}/${pod.name}`),
      )
      reject(
        new Error(
          `these pods did not become ready: ${pods.join(', ')}; their logs are in ${world.folder}/*/logs`,
        ),
      )
    }, STARTUP_MS)
    world.on('change', look)
    look()
  })
}

/** What S8 to S12 applied beyond S4. */
const LATER = {
  'cluster-1': ['story/reachability.yaml', 'more/cluster-3.yaml', 'more/gateway-in-eastwest.yaml'],
  'cluster-2': [
    'story/reachability.yaml',
    'more/cluster-3.yaml',
    'more/cluster-2-exposes-sleep.yaml',
    'more/details-in-cluster-2.yaml',
  ],
  'cluster-3': ['story/reachability.yaml', 'more/cluster-3.yaml'],
} as const

/** The state that the demo stays in: what S3 and S4 apply, nothing of what came after, and S6 true. */
export async function setUpMesh({ stage, commands }: Scene, played: boolean): Promise<void> {
  const quiet = { quiet: true, withinMs: SETTLED_MS }
  if (played) {
    for (const [cluster, files] of Object.entries(LATER) as [ClusterName, readonly string[]][])
      await stage.see(cluster, `${commands.delete(cluster, ...files)} --ignore-not-found`, succeeds, quiet)
  }
  const files = ['story/eastwest-gateway.yaml', 'story/bookinfo-ws.yaml', 'story/bookinfo-ws-eastwest.yaml']
  await stage.see('cluster-1', commands.apply('cluster-1', ...files), succeeds, quiet)
  await stage.see('cluster-2', commands.page('cluster-2'), TITLE, quiet)
  const everyEntry = prints(...EVERY_SERVICE.map(entry))
  for (const cluster of ['cluster-2', 'cluster-3'] as const)
    await stage.see(cluster, commands.get(cluster, 'serviceentries -n xcp-multicluster'), everyEntry, quiet)
}
