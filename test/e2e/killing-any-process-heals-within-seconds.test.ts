// PROMISE: SIGKILL any one process that the state file lists and the whole page (every section of it) answers again in cluster-2
// within seconds; the process is started again.
import { rmSync } from 'node:fs'
import t from 'tap'
import { alive, allPids, type Demo, hasTitle, processesWith, startDemo, until } from './harness.ts'

t.setTimeout(400_000)
const SECONDS_MS = 20_000

t.test('each process once', async (t) => {
  const demo = await startDemo(t)
  await wholePage(demo)
  for (const [role, { length }] of rolesOf(demo)) {
    t.ok(length > 0, `${role} has processes`)
    for (let i = 0; i < length; i++) {
      const pid = pidsOf(demo, role)[i]
      if (pid === undefined) {
        t.fail(`${role} has no process ${i + 1} to kill`)
        continue
      }
      const killedMs = Date.now()
      process.kill(pid, 'SIGKILL')
      await until(`${role}: another process ${i + 1}`, SECONDS_MS, () => {
        const pids = pidsOf(demo, role)
        return pids.length >= length && !pids.includes(pid) ? true : undefined
      })
      await wholePage(demo)
      // Seen through the state file, which is up to a second behind.
      t.pass(
        `${role}, process ${i + 1}: replaced and the whole page there ${Date.now() - killedMs} ms after the kill`,
      )
    }
  }
})

t.test('the machine that plays Kubernetes for cluster-1, and everything on it', async (t) => {
  const demo = await startDemo(t)
  await wholePage(demo)
  const machine = () => processesWith(`${demo.state.folder}/cluster-1/machine`)
  const [pid = 0] = machine()
  const before = alive(allPids(demo.state))
  process.kill(pid, 'SIGKILL')
  await until('another machine', SECONDS_MS, () => machine().some((other) => other !== pid) || undefined)
  await wholePage(demo)
  const { gateway } = demo.cluster('cluster-1')
  t.ok(gateway, 'the gateway is back too')
  t.strictSame(
    alive(before).filter((old) => !allPids(demo.state).includes(old)),
    [],
    'nothing of the old machine lives on',
  )
})

t.test('the demo itself: no process stays behind', async (t) => {
  const demo = await startDemo(t)
  const { folder } = demo.state
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const pids = allPids(demo.state)
  t.ok(alive(pids).length > 10)
  await demo.stop('SIGKILL')
  await until('the end of all', SECONDS_MS, () => (alive(pids).length === 0 ? true : undefined))
  t.strictSame(processesWith(folder), [])
})

/** Every role of which the state file has pids. */
function rolesOf({ state }: Demo): [string, readonly number[]][] {
  return Object.entries(state.clusters).flatMap(([cluster, { discovery, sidecar, pods }]) => [
    [`${cluster} discovery`, discovery.pids] as [string, readonly number[]],
    ...(sidecar === null ? [] : [[`${cluster} sidecar`, sidecar.pids] as [string, readonly number[]]]),
    ...pods.map(({ name, pids }) => [`${cluster} pod ${name}`, pids] as [string, readonly number[]]),
  ])
}

const pidsOf = (demo: Demo, role: string): readonly number[] =>
  rolesOf(demo).find(([name]) => name === role)?.[1] ?? []

/** Until the page has all its sections. */
async function wholePage(demo: Demo): Promise<void> {
  let last = ''
  await until('the whole page', SECONDS_MS, async () => {
    last = (await demo.page('cluster-2')).output
    return hasTitle(last) && !last.includes('unavailable:') ? true : undefined
  }).catch((error: Error) => {
    throw new Error(`${error.message}; last answer: ${last}`)
  })
}
