// PROMISE: a discovery server that is stopped (SIGSTOP) for a minute costs no running stream and no new connection.
import { setTimeout as pause } from 'node:timers/promises'
import t from 'tap'
import { startDemo } from './harness.ts'

/** Longer than the ADS keepalive (20 s and 5 s more), so that the clients notice and go on all the same. */
const STOPPED_MS = 62_000

t.setTimeout(260_000)
t.test('both discovery servers stopped for a minute', async (t) => {
  const demo = await startDemo(t)
  const stopped = ['cluster-1', 'cluster-2'].flatMap((name) => demo.cluster(name).discovery.pids)
  const stream = demo.curl(
    'cluster-2',
    `productpage.bookinfo:9080/slow?seconds=${STOPPED_MS / 1000 - 2}`,
    '--no-buffer',
    '--max-time',
    '90',
  )
  for (const pid of stopped) process.kill(pid, 'SIGSTOP')
  const resume = (): void => {
    for (const pid of stopped) process.kill(pid, 'SIGCONT')
  }
  t.teardown(resume)
  const until = Date.now() + STOPPED_MS
  const failed: string[] = []
  let made = 0
  for (; Date.now() < until; made++) {
    const { output } = await demo.page('cluster-2')
    if (!output.includes('<title>Simple Bookstore App</title>')) failed.push(`connection ${made}: ${output}`)
    // A steady trickle over the whole minute rather than all that the machine can do.
    await pause(250)
  }
  t.ok(made > 60, `${made} new connections meanwhile`)
  t.same(failed, [], 'and every one was answered')
  const { code, output } = await stream
  t.equal(code, 0, output)
  t.match(output, /the end/, 'the running stream came to its end')
  resume()
  t.match((await demo.page('cluster-2')).output, /<title>/, 'and it goes on afterwards')
})
