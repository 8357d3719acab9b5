// PROMISE: the demo works twice at the same time; when ports are taken it picks others and says which; Ctrl-C ends every
// process and leaves no file.

import { once } from 'node:events'
import { existsSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import t, { type Test } from 'tap'
import { alive, allPids, hasTitle, startDemo, until } from './harness.ts'

t.setTimeout(300_000)
t.test('two demos', async (t) => {
  // Somebody has the gateway's port wherever a gateway of the second demo may be, and its discovery server's.
  const range = `127.${220 + (process.pid % 18)}`
  await takePorts(t, [...pods(range).map((ip) => [ip, 15_443] as const), [`${range}.1.1`, 15_012]])
  const [one, two] = await Promise.all([startDemo(t), startDemo(t, '--loopback', range)])
  t.not(one.state.folder, two.state.folder)
  for (const demo of [one, two]) t.ok(hasTitle((await demo.page('cluster-2')).output))
  t.match(two.output, /port 15443 of \S+ is taken, the gateway listens on 15444/)
  t.match(two.output, /port 15012 of \S+ is taken, using 15013/)
  t.match(two.cluster('cluster-1').gateway?.address, /:15444$/)
  t.match(two.cluster('cluster-1').discovery.ads, /:15013$/)

  await t.test('Ctrl-C', async (t) => {
    const { folder } = two.state
    const pids = allPids(two.state)
    t.equal(alive(pids).length, pids.length)
    // Twice, as when a terminal sends it to a launcher and to us.
    two.child.kill('SIGINT')
    t.equal(await two.stop('SIGINT'), 0)
    await until('every process is gone', 10_000, () => (alive(pids).length === 0 ? true : undefined))
    t.notOk(existsSync(folder))
    t.notOk(existsSync(two.stateFile))
    t.ok(hasTitle((await one.page('cluster-2')).output), 'the other one goes on')
  })
  await t.test('killed without a chance to tidy up', async (t) => {
    const { folder } = one.state
    t.teardown(() => rmSync(folder, { recursive: true, force: true }))
    const pids = allPids(one.state)
    await one.stop('SIGKILL')
    await until('every process is gone', 10_000, () => (alive(pids).length === 0 ? true : undefined))
  })
})

function pods(range: string): string[] {
  return Array.from({ length: 30 }, (_, i) => `${range}.1.${10 + i}`)
}

async function takePorts(
  t: Test,
  addresses: readonly (readonly [host: string, port: number])[],
): Promise<void> {
  for (const [host, port] of addresses) {
    const server = createServer().listen(port, host)
    await once(server, 'listening')
    t.teardown(() => server.close())
  }
}
