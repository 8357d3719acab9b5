// PROMISE: `npm start -- --netns`, here with proxies on Bun, makes S2 and S6 literally `curl productpage.bookinfo:9080/productpage`, without root where
// the kernel allows it, and does not touch this machine's own network.
import { readFileSync } from 'node:fs'
import t from 'tap'
import { namespacesUnavailable } from '../../src/cli/demo/netns.ts'
import { BIN, run } from './harness.ts'

t.setTimeout(300_000)
const skip = namespacesUnavailable()
t.test('the story in namespaces', { skip: skip ?? false }, async (t) => {
  const links = async () => (await run(['ip', '-o', 'link'])).output
  const before = { links: await links(), resolv: readFileSync('/etc/resolv.conf', 'utf8') }
  const { code, output } = await run([process.execPath, BIN, 'demo', '--once', '--netns'], {
    timeoutMs: 290_000,
    env: { ISTHMUS_RUNTIME: 'bun' },
  })
  t.equal(code, 0, 'every step came true')
  if (code !== 0) t.comment(output)
  t.match(
    output,
    /cluster-2\$ curl -sS productpage\.bookinfo:9080\/productpage\n +curl: \(6\) Could not resolve host: productpage\.bookinfo\n/,
    'S2',
  )
  t.match(
    output,
    /cluster-2\$ curl -sS productpage\.bookinfo:9080\/productpage \|.*\n +<title>Simple Bookstore App<\/title>\n/,
    'S6',
  )
  t.strictSame({ links: await links(), resolv: readFileSync('/etc/resolv.conf', 'utf8') }, before)
})
