// PROMISE: a discovery server that is stopped (SIGSTOP) costs no running stream and no new connection.
import t from 'tap'
import { startDemo } from './harness.ts'

t.setTimeout(200_000)
t.test('both discovery servers stopped', async (t) => {
  const demo = await startDemo(t)
  const stopped = ['cluster-1', 'cluster-2'].flatMap((name) => demo.cluster(name).discovery.pids)
  const stream = demo.curl('cluster-2', 'productpage.bookinfo:9080/slow?seconds=8', '--no-buffer')
  for (const pid of stopped) process.kill(pid, 'SIGSTOP')
  t.teardown(() => {
    for (const pid of stopped) process.kill(pid, 'SIGCONT')
  })
  for (let i = 0; i < 20; i++) {
    const { output } = await demo.page('cluster-2')
    t.match(output, /<title>Simple Bookstore App<\/title>/, `new connection ${i + 1}`)
  }
  const { code, output } = await stream
  t.equal(code, 0, output)
  t.match(output, /the end/, 'the running stream came to its end')
})
