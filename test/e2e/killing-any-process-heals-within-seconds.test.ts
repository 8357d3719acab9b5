// PROMISE: SIGKILL any one process of the demo and the page answers again in cluster-2 within seconds; the process is
// started again.
import t from 'tap'
import { allPids, startDemo, until } from './harness.ts'

t.setTimeout(400_000)
const SECONDS_MS = 20_000

t.test('each process once', async (t) => {
  const demo = await startDemo(t)
  const roles = (): [string, readonly number[]][] => [
    ['gateway', demo.cluster('cluster-1').gateway?.pids ?? []],
    ['discovery of cluster-1', demo.cluster('cluster-1').discovery.pids],
    ['discovery of cluster-2', demo.cluster('cluster-2').discovery.pids],
    ['sidecar of cluster-2', demo.cluster('cluster-2').sidecar?.pids ?? []],
    [
      'productpage',
      demo.cluster('cluster-1').pods.find(({ name }) => name.startsWith('productpage'))?.pids ?? [],
    ],
  ]
  for (const [role, pids] of roles()) t.ok(pids.length > 0, `${role} has processes`)
  for (const [role, { length }] of roles()) {
    for (let i = 0; i < length; i++) {
      const before = roles().find(([name]) => name === role)?.[1] ?? []
      const pid = before[i]
      if (pid === undefined) continue
      process.kill(pid, 'SIGKILL')
      await until(`${role}: process ${i + 1} is another one`, SECONDS_MS, () => {
        const pids = roles().find(([name]) => name === role)?.[1] ?? []
        return pids.length >= length && !pids.includes(pid) ? true : undefined
      })
      const tookMs = await demo.pageAnswers('cluster-2', SECONDS_MS)
      t.pass(`${role}, process ${i + 1}: the page again after ${tookMs} ms`)
    }
  }
  t.ok(allPids(demo.state).length > 15)
})
