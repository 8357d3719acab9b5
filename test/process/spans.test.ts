import { once } from 'node:events'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import t from 'tap'
import { echoes, World } from './gateway-world.ts'
import { eventually } from './pod.ts'

t.test(
  'spans of connections reach a collector; who asks for none does not load what makes them',
  async (t) => {
    const world = await World.create(t)
    const loaded = join(world.cluster.folder, 'loaded')
    const hook = join(world.cluster.folder, 'hook.mjs')
    // Every module that a process of the pod loads.
    writeFileSync(
      hook,
      `import { appendFileSync } from 'node:fs'
     import { registerHooks } from 'node:module'
     registerHooks({
       load(url, context, next) {
         if (url.includes('/src/')) appendFileSync(${JSON.stringify(loaded)}, url + '\\n')
         return next(url, context)
       },
     })`,
    )
    process.env['NODE_OPTIONS'] = `--import ${hook}`
    t.teardown(() => delete process.env['NODE_OPTIONS'])
    const bodies: string[] = []
    const collector = createServer(async (request, response) => {
      const chunks: Buffer[] = []
      for await (const chunk of request) chunks.push(chunk as Buffer)
      bodies.push(Buffer.concat(chunks).toString())
      response.end('{}')
    }).listen(0, '127.0.0.1')
    await once(collector, 'listening')
    t.teardown(() => {
      collector.closeAllConnections()
      collector.close()
    })
    const modules = () => (existsSync(loaded) ? readFileSync(loaded, 'utf8') : '')

    const plain = world.start(t, '--drain-delay', '0s', '--drain', '0s')
    await plain.ready('gateway')
    const socket = await world.connect()
    t.equal(await echoes(socket, 'hello'), 'hello')
    t.match(modules(), 'src/proxy/connection.ts', 'the hook sees what is loaded')
    t.notMatch(modules(), 'otlp')
    plain.process.kill('SIGTERM')
    await plain.exit

    const { port } = collector.address() as AddressInfo
    const pod = world.start(t, '--drain-delay', '0s', '--otlp-endpoint', `http://127.0.0.1:${port}`)
    await pod.ready('gateway')
    t.match(modules(), 'otlp')
    const other = await world.connect()
    t.equal(await echoes(other, 'hello'), 'hello')
    other.end()
    await eventually(
      async () => bodies.join(''),
      (all) => all.includes('productpage'),
    )
    t.match(bodies.join(''), 'spiffe://cluster-1.example/ns/bookinfo/sa/sleep')
    const metrics = await (await fetch(`${await pod.url('metrics')}/metrics`)).text()
    t.match(metrics, /isthmus_spans_total\{outcome="sent"\} \d/)
  },
)
