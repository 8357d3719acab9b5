// S10: a service that runs here and elsewhere. Near first, far when nobody near is well, and home again.

import type { PodReport } from './machine-config.ts'
import type { Scene, Step } from './scene.ts'
import { type Expectation, prints, StepFailed, succeeds } from './stage.ts'

const TARGET = 'details.bookinfo:9080'
const CALLS = 12
const PODS = 3
const NEAR = 'details-near'
/** "Back = local within 5 s", and what is still on its way from before is gone as soon. */
const HOME_MS = 5_000
const READY_MS = 30_000

/** Every call was answered, and only by pods of this Deployment. */
function answered(deployment: string, pods?: number): Expectation {
  const line = new RegExp(`^ *(\\d+) x-pod: ${deployment}-[0-9a-f]+-\\d+$`, 'i')
  return {
    want: `${CALLS} answers, all from ${pods === undefined ? '' : `${pods} `}pods of ${deployment}`,
    judge: ({ output }) => {
      const lines = output.trimEnd().split('\n')
      const counts = lines.map((text) => Number(line.exec(text)?.[1]))
      return (
        counts.reduce((sum, count) => sum + count, 0) === CALLS && (pods ?? lines.length) === lines.length
      )
    },
  }
}

export const FAILOVER_STEPS: readonly Step[] = [
  {
    id: 'S10',
    title:
      'details also runs in cluster-2: its own pods first, cluster-1 when none of them is well, and home again',
    async play(scene) {
      const { stage, commands } = scene
      const apply = commands.apply('cluster-2', 'more/details-in-cluster-2.yaml')
      await stage.see('cluster-2', apply, succeeds)
      const pods = await nearPods(scene)
      const calls = commands.answeredBy('cluster-2', `${TARGET}/details`, CALLS)
      const toNear = answered(NEAR)
      const listen = async (pod: PodReport, on: boolean, quiet: boolean) =>
        void (await stage.see('cluster-2', commands.listening(pod.ip, on), prints(new RegExp(`${on}`)), {
          quiet,
        }))
      // The first answer may be from before the pods were known.
      await stage.see('cluster-2', calls, toNear)

      stage.say('One of the three crashes. Not one call goes elsewhere, and none is lost:')
      await listen(pods[0]!, false, false)
      await stage.see('cluster-2', calls, answered(NEAR), { withinMs: 0 })

      stage.say('All three: the very next calls are answered in cluster-1.')
      for (const pod of pods.slice(1)) await listen(pod, false, true)
      await stage.see('cluster-2', calls, answered('details-v1'), { withinMs: 0 })
      await stage.see(
        'cluster-2',
        `${commands.explain('cluster-2', TARGET)} | grep -o 'the own cluster first.*'`,
        prints(/calls go to cluster-1/),
      )

      stage.say('A client keeps its connection to cluster-1 for later, and the pods are back:')
      const kept = stage.begin('cluster-2', commands.keptConnection('cluster-2', TARGET, '/details', 10))
      await until(() => /x-pod: details-v1/i.test(kept.output()), `no answer came on it:\n${kept.output()}`)
      for (const pod of pods) await listen(pod, true, true)
      await stage.see('cluster-2', calls, toNear, { withinMs: HOME_MS })
      await stage.see(
        'cluster-2',
        commands.accessLog('cluster-2/logs/sidecar.log', 'moved back'),
        prints(/"flag":"DRAIN"/, /moved back/),
        { withinMs: HOME_MS },
      )
      kept.kill()
      const remove = commands.delete('cluster-2', 'more/details-in-cluster-2.yaml')
      await stage.see('cluster-2', remove, succeeds, { quiet: true })
    },
  },
]

/** Once all three are ready. */
async function nearPods({ world }: Scene): Promise<readonly PodReport[]> {
  const ready = () =>
    world.cluster('cluster-2').state.pods.filter((pod) => pod.deployment === NEAR && pod.ready)
  await until(() => ready().length === PODS, `the pods of ${NEAR} did not become ready; see cluster-2/logs`)
  return ready()
}

async function until(isSo: () => boolean, otherwise: string): Promise<void> {
  const deadlineMs = Date.now() + READY_MS
  while (!isSo()) {
    if (Date.now() > deadlineMs) throw new StepFailed(otherwise)
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
}
