// S8 and S9: less is exposed, and not to everyone.

import type { Step } from './scene.ts'
import { both, type Expectation, prints, printsNot, succeeds } from './stage.ts'
import { entry, gatewayOf, TITLE } from './steps-expose.ts'

/** What anybody gets to see of a service he may not call: no byte of HTTP. */
const NO_BYTE: Expectation = printsNot(/HTTP\//)
const ANSWER = prints(/HTTP\/1\.1 200/)

export const LIMITING_STEPS: readonly Step[] = [
  {
    id: 'S8',
    title:
      'Only what is labelled failover: enable or app: details stays exposed, on a gateway in namespace eastwest',
    async play(scene) {
      const { stage, commands } = scene
      await stage.see(
        'cluster-1',
        commands.apply('cluster-1', 'more/gateway-in-eastwest.yaml', 'story/bookinfo-ws-limited.yaml'),
        succeeds,
      )
      const { address, log } = await gatewayOf(scene, 'eastwest')
      const entries = commands.get('cluster-2', 'serviceentries -n xcp-multicluster')
      await stage.see(
        'cluster-2',
        entries,
        both(prints(entry('productpage'), entry('details')), printsNot(entry('reviews'), entry('ratings'))),
      )
      await stage.see('cluster-2', commands.page('cluster-2'), TITLE)
      stage.say(
        'Not only hidden: who asks the gateway for it all the same, with a good certificate, is refused.',
      )
      await stage.see('cluster-2', commands.knock(address, 'details', 9080, 'cluster-2'), ANSWER)
      await stage.see(
        'cluster-2',
        commands.knock(address, 'reviews', 9080, 'cluster-2'),
        both(prints(/unrecognized name/i), NO_BYTE),
      )
      const old = await gatewayOf(scene, 'bookinfo')
      await stage.see(
        'cluster-2',
        commands.knock(old.address, 'reviews', 9080, 'cluster-2'),
        both(prints(/unrecognized name/i), NO_BYTE),
      )
      await stage.see('cluster-1', commands.accessLog(log, 'reviews'), prints(/reviews/))
    },
  },
  {
    id: 'S9',
    title:
      'Networks get names, and who may call whom: cluster-2 may call cluster-1, not the reverse, and cluster-3 nobody',
    async play(scene) {
      const { stage, commands } = scene
      const entries = (cluster: 'cluster-1' | 'cluster-2' | 'cluster-3') =>
        commands.get(cluster, 'serviceentries -n xcp-multicluster')
      stage.say(
        'Before: networks without names are one network. cluster-2 exposes its sleep, and everybody sees everything.',
      )
      await stage.see('cluster-2', commands.apply('cluster-2', 'more/cluster-2-exposes-sleep.yaml'), succeeds)
      const sleepEntry = /global-gwinternal-sleep-client-svc-cluster-local/
      await stage.see('cluster-1', entries('cluster-1'), prints(sleepEntry))
      await stage.see('cluster-3', entries('cluster-3'), prints(entry('productpage')))
      const { address, log } = await gatewayOf(scene, 'eastwest')
      await stage.see('cluster-3', commands.knock(address, 'productpage', 9080, 'cluster-3'), ANSWER)

      for (const cluster of ['cluster-1', 'cluster-2', 'cluster-3'] as const)
        await stage.see(
          cluster,
          commands.apply(cluster, 'story/reachability.yaml', 'more/cluster-3.yaml'),
          succeeds,
          { quiet: cluster === 'cluster-3' },
        )

      await stage.see('cluster-1', entries('cluster-1'), printsNot(/global-gwinternal/))
      await stage.see('cluster-3', entries('cluster-3'), printsNot(/global-gwinternal/))
      await stage.see('cluster-3', commands.knock(address, 'productpage', 9080, 'cluster-3'), NO_BYTE)
      await stage.see('cluster-1', commands.accessLog(log, 'cluster-3'), prints(/cluster-3/))
      await stage.see('cluster-2', entries('cluster-2'), prints(entry('productpage')))
      await stage.see('cluster-2', commands.page('cluster-2'), TITLE)
    },
  },
]
