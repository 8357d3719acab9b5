import { join, resolve } from 'node:path'
import { Commands } from './commands.ts'
import { formatProblemOrError } from './failure.ts'
import { Stage } from './stage.ts'
import { StateFile } from './state-file.ts'
import { playStory, STEPS, setUpMesh, waitForWorld } from './story.ts'
import { World } from './world.ts'

export interface RunOptions {
  readonly once: boolean
  readonly netns: boolean
  readonly story: boolean
  /** `127.X`; undefined: a range that is free. */
  readonly loopback: string | undefined
  /** Where to write the state; undefined: nowhere. */
  readonly state: string | undefined
}

/** The whole demo; resolves with the exit code once everything it started is gone. */
export async function runDemo({ once, netns, story, loopback, state }: RunOptions): Promise<number> {
  const print = (text: string) => void process.stdout.write(text)
  // `on`, not `once`: Ctrl-C may reach us twice (from the terminal and through a launcher), and the second one must not cut
  // the tidying up short.
  const interrupted = new Promise<number>((resolveCode) => {
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
      process.on(signal, () => resolveCode(once ? 130 : 0))
  })
  const world = new World(netns, loopback)
  const stage = new Stage(world, print, process.stdout.isTTY === true)
  // For the demo's own commands, from the start; and for others, once everything serves.
  const ownState = new StateFile(join(world.folder, 'state.json'), world, false)
  const stateFile = state === undefined ? undefined : new StateFile(resolve(state), world, true)
  world.on('notice', (text) => stage.say(`· ${text}`))
  try {
    return await Promise.race([interrupted, play()])
  } catch (error) {
    process.stderr.write(`isthmus demo: ${formatProblemOrError(error)}\n`)
    return 1
  } finally {
    stage.close()
    world.removeAllListeners('notice')
    stateFile?.stop()
    ownState.stop()
    await world.stop()
  }

  async function play(): Promise<number> {
    print(`Isthmus: two clusters on this machine, in ${world.folder}\n`)
    await world.start()
    ownState.start()
    const scene = { world, stage, commands: new Commands(world) }
    await waitForWorld(scene)
    const failed = story ? await playStory(scene) : 0
    if (story)
      print(
        failed === 0
          ? `\nEvery step came true.\n`
          : `\n${failed} of ${STEPS.length} steps did not come true.\n`,
      )
    if (once) return failed === 0 ? 0 : 1
    await setUpMesh(scene, story)
    ownState.serves()
    stateFile?.start()
    print(farewell(scene))
    return interrupted
  }
}

function farewell({ world, commands }: { world: World; commands: Commands }): string {
  const gateway = world.cluster('cluster-1').state.pods.find((pod) => pod.gateway !== undefined)?.gateway
  const inside = (cluster: 'cluster-1' | 'cluster-2', command: string) =>
    world.netns ? `./in ${cluster} ${command}` : command
  return `
It stays up until Ctrl-C. In another shell:

  cd ${world.folder}
  ${inside('cluster-2', commands.curl('cluster-2', 'productpage.bookinfo:9080/productpage'))}
  ${inside('cluster-1', commands.status('cluster-1'))}
  ${inside('cluster-2', commands.explain('cluster-2', 'productpage.bookinfo:9080'))}
  ${commands.get('cluster-2', 'serviceentries -n xcp-multicluster')}
  tail -f cluster-1/logs/*eastwest-gateway*.log        # one line per connection${gateway === undefined ? '' : ` at ${gateway.address}`}

Edit anything in cluster-1/yaml or cluster-2/yaml; saving is enough. For example
  - in cluster-1/yaml/reviews.yaml, the label "app: reviews" of the Service, or the replicas of the Deployment;
  - apply story/bookinfo-ws-limited.yaml (with more/gateway-in-eastwest.yaml), or story/reachability.yaml;
  - kill any process: it is started again.
`
}
