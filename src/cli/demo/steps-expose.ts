// S1 to S7: from nothing exposed to a page in another cluster, and a stranger at the door.

import type { Scene, Step } from './scene.ts'
import { both, prints, printsNot, StepFailed, succeeds } from './stage.ts'

export const TITLE = prints(/<title>Simple Bookstore App<\/title>/)
/** The entries' names are those of the reference product. */
export const entry = (service: string): RegExp =>
  new RegExp(`global-gwinternal-${service}-bookinfo-svc-cluster-local`)
export const EVERY_SERVICE = ['productpage', 'details', 'reviews', 'ratings']
/** "Seconds later, not minutes." */
const SECONDS_MS = 10_000

export const EXPOSING_STEPS: readonly Step[] = [
  {
    id: 'S1',
    title: 'In cluster-1, where bookinfo runs, its page answers by name',
    async play({ stage, commands }) {
      await stage.see('cluster-1', commands.page('cluster-1'), TITLE)
    },
  },
  {
    id: 'S2',
    title: 'In cluster-2 nobody knows that name: nothing is exposed yet',
    async play({ world, stage, commands }) {
      const target = 'productpage.bookinfo:9080/productpage'
      if (world.netns)
        await stage.see(
          'cluster-2',
          commands.curl('cluster-2', target),
          prints(/Could not resolve host: productpage\.bookinfo/),
        )
      else
        await stage.see(
          'cluster-2',
          commands.curl('cluster-2', target, '-sSi'),
          prints(/502 Bad Gateway/, /could not resolve host: productpage\.bookinfo/i),
        )
    },
  },
  {
    id: 'S3',
    title: 'An east-west gateway for cluster-1: one object',
    async play(scene) {
      const { stage, commands } = scene
      await stage.see('cluster-1', commands.apply('cluster-1', 'story/eastwest-gateway.yaml'), succeeds)
      await stage.see('cluster-1', commands.status('cluster-1'), prints(/AwaitingAddress/))
      await stage.see(
        'cluster-1',
        commands.get('cluster-1', 'deployments -n bookinfo'),
        prints(/eastwest-gateway/),
      )
      await stage.see(
        'cluster-1',
        commands.get('cluster-1', 'service eastwest-gateway -n bookinfo'),
        prints(/15443/),
      )
      stage.say('The load balancer takes a moment, as they do.')
      const { address } = await gatewayOf(scene, 'bookinfo')
      await stage.see(
        'cluster-1',
        commands.status('cluster-1'),
        both(prints(literal(address.replace(/:\d+$/, ''))), printsNot(/AwaitingAddress/)),
      )
    },
  },
  {
    id: 'S4',
    title: 'Workspace and setting: every service of the workspace is exposed, each with the rule that did it',
    async play({ stage, commands }) {
      await stage.see(
        'cluster-1',
        commands.apply('cluster-1', 'story/bookinfo-ws.yaml', 'story/bookinfo-ws-eastwest.yaml'),
        succeeds,
      )
      const lines = EVERY_SERVICE.map((service) => new RegExp(`${service}\\.bookinfo.*bookinfo-ws-setting`))
      await stage.see('cluster-1', commands.status('cluster-1'), prints(...lines))
    },
  },
  {
    id: 'S5',
    title: 'In cluster-2 there is one ServiceEntry for each, within seconds',
    async play({ stage, commands }) {
      const get = commands.get('cluster-2', 'serviceentries -n xcp-multicluster')
      await stage.see('cluster-2', get, prints(...EVERY_SERVICE.map(entry)), { withinMs: SECONDS_MS })
    },
  },
  {
    id: 'S6',
    title: 'And the page answers there: nothing in cluster-2 knows where productpage runs',
    async play({ stage, commands }) {
      await stage.see('cluster-2', commands.page('cluster-2'), TITLE, { withinMs: SECONDS_MS })
    },
  },
  {
    id: 'S7',
    title: 'Without a certificate of the mesh, straight at port 15443: refused in the TLS handshake',
    async play({ world, stage, commands }) {
      const { address, log } = await gatewayOf({ world, stage, commands }, 'bookinfo')
      const refused = both(
        prints(/alert (certificate required|bad certificate|handshake failure)/i),
        printsNot(/HTTP\//),
      )
      await stage.see('cluster-2', commands.knock(address, 'productpage', 9080, undefined), refused)
      await stage.see(
        'cluster-2',
        commands.knock(address, 'no-such-service', 9080, undefined),
        both(prints(/unrecognized name/i), printsNot(/HTTP\//)),
      )
      await stage.see('cluster-1', commands.accessLog(log, 'no-such-service'), prints(/no-such-service/))
    },
  },
]

export interface GatewayFacts {
  readonly address: string
  readonly log: string
}

/** Waits until the gateway in a namespace of cluster-1 serves. */
export async function gatewayOf(
  { world }: Scene,
  namespace: string,
  cluster: 'cluster-1' | 'cluster-2' = 'cluster-1',
): Promise<GatewayFacts> {
  const find = () =>
    world
      .cluster(cluster)
      .state.pods.find((pod) => pod.namespace === namespace && pod.gateway !== undefined && pod.ready)
      ?.gateway
  const now = find()
  if (now !== undefined) return now
  return new Promise((resolve, reject) => {
    const look = () => {
      const found = find()
      if (found === undefined) return
      clearTimeout(timer)
      world.off('change', look)
      resolve(found)
    }
    const timer = setTimeout(() => {
      world.off('change', look)
      reject(
        new StepFailed(
          `the gateway in namespace ${namespace} did not become ready; its log is in ${world.folder}/${cluster}/logs`,
        ),
      )
    }, 30_000)
    world.on('change', look)
  })
}

export function literal(text: string): RegExp {
  return new RegExp(text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'))
}
