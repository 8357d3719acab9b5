// S11 and S12: what a caller sees when there is nobody to answer, and what happens to connections when a gateway goes.

import { Resolver } from 'node:dns/promises'
import type { Scene, Step } from './scene.ts'
import { prints, printsNot, StepFailed, succeeds } from './stage.ts'
import { entry, gatewayOf, TITLE } from './steps-expose.ts'

export const FAILING_STEPS: readonly Step[] = [
  {
    id: 'S11',
    title: 'Nobody to answer: an error that says so, and an explanation that names the hop',
    async play(scene) {
      await awaitingAddress(scene)
      await noEndpoint(scene)
    },
  },
  {
    id: 'S12',
    title:
      'The gateway goes: entries and routes with it; connections in flight finish, or are cut at the drain deadline',
    async play(scene) {
      const { stage, commands } = scene
      const { log } = await gatewayOf(scene, 'eastwest')
      const slow = (seconds: number) =>
        commands.curl('cluster-2', `'productpage.bookinfo:9080/slow?seconds=${seconds}'`, '-sS -N')
      stage.say('Two answers that take their time; the gateway drains for at most 4 seconds.')
      const short = stage.begin('cluster-2', slow(3))
      const long = stage.begin('cluster-2', slow(60))
      await firstLine(short)
      await firstLine(long)
      await stage.see('cluster-1', commands.delete('cluster-1', 'more/gateway-in-eastwest.yaml'), succeeds)
      await stage.see(
        'cluster-2',
        commands.get('cluster-2', 'serviceentries -n xcp-multicluster'),
        printsNot(entry('productpage')),
      )
      const [finished, cut] = await Promise.all([short.done, long.done])
      if (finished.code !== 0 || !finished.output.includes('the end'))
        throw new StepFailed(`the short answer did not finish:\n${finished.output}`)
      if (cut.output.includes('the end') || cut.ms > 30_000)
        throw new StepFailed(`the long answer was not cut at the deadline:\n${cut.output}`)
      stage.say(`the short one: …${finished.output.trimEnd().split('\n').slice(-2).join(' / ')}`)
      stage.say(`the long one:  …${cut.output.trimEnd().split('\n').slice(-2).join(' / ')}`)
      await stage.see('cluster-1', commands.log(log, 'drain', 4), prints(/drain/))
    },
  },
]

/** A gateway whose load balancer never gets an address. */
async function awaitingAddress({ stage, commands }: Scene): Promise<void> {
  stage.say('First: the load balancer has no address.')
  await stage.see(
    'cluster-1',
    commands.apply('cluster-1', 'more/gateway-awaiting-address.yaml', 'story/bookinfo-ws-eastwest.yaml'),
    succeeds,
  )
  await stage.see('cluster-1', commands.status('cluster-1'), prints(/AwaitingAddress/))
  await stage.see(
    'cluster-2',
    commands.get('cluster-2', 'serviceentries -n xcp-multicluster'),
    printsNot(entry('productpage')),
  )
  await stage.see(
    'cluster-2',
    commands.explain('cluster-2', 'productpage.bookinfo:9080'),
    prints(/address/i, /AwaitingAddress|load ?balancer/i),
  )
  await stage.see('cluster-1', commands.apply('cluster-1', 'story/bookinfo-ws-limited.yaml'), succeeds, {
    quiet: true,
  })
  await stage.see('cluster-2', commands.page('cluster-2'), TITLE, { quiet: true })
}

/** Every pod of productpage gone. */
async function noEndpoint({ world, stage, commands }: Scene): Promise<void> {
  const target = 'productpage.bookinfo:9080'
  const dns = world.cluster('cluster-2').config.sidecar?.dns ?? ''
  stage.say('Then: an address, and no endpoint anywhere.')
  await stage.see('cluster-1', commands.apply('cluster-1', 'more/productpage-scaled-to-zero.yaml'), succeeds)
  try {
    stage.say('Through HTTP CONNECT, then as plain HTTP:')
    const refused = prints(/503 Service Unavailable/, /no healthy upstream/)
    await stage.see('cluster-2', commands.connect('cluster-2', `${target}/productpage`, '-sSi'), refused)
    if (world.netns)
      await stage.see('cluster-2', commands.curl('cluster-2', `${target}/productpage`, '-sSi'), refused)
    else
      await stage.see(
        'cluster-2',
        commands.curlAt(await resolveAt(dns, 'productpage.bookinfo'), target, '/productpage'),
        refused,
      )
    await stage.see('cluster-2', commands.accessLog('cluster-2/logs/sidecar.log', '"UH"'), prints(/"UH"/))
    await stage.see('cluster-2', commands.explain('cluster-2', target), prints(/broken at: backend/i))
  } finally {
    await stage.see('cluster-1', commands.apply('cluster-1', 'more/productpage.yaml'), succeeds, {
      quiet: true,
    })
  }
  stage.say('And when a pod is back, so is the page:')
  await stage.see('cluster-2', commands.page('cluster-2'), TITLE)
}

/** What the sidecar's DNS server answers. */
async function resolveAt(server: string, host: string): Promise<string> {
  const resolver = new Resolver({ timeout: 1_000, tries: 3 })
  resolver.setServers([server])
  const [address] = await resolver.resolve4(host)
  return address ?? ''
}

/** A connection counts as in flight once something came through it. */
async function firstLine(command: { output(): string; readonly done: Promise<unknown> }): Promise<void> {
  for (let i = 0; i < 100 && !command.output().includes('line 1'); i++)
    await new Promise((resolve) => setTimeout(resolve, 100))
  if (!command.output().includes('line 1')) throw new StepFailed(`no answer came:\n${command.output()}`)
}
