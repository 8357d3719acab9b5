// PROMISE: saving a YAML file takes effect within a second or two; a file that does not parse is reported with its name, and the
// last good objects stay in force until it is mended.
import { appendFileSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { hasTitle, startDemo, until } from './harness.ts'

t.setTimeout(200_000)
const SOON_MS = 8_000

t.test('the folder of YAML', async (t) => {
  const demo = await startDemo(t)
  const { yaml, discovery } = demo.cluster('cluster-1')
  const entries = async () =>
    (await demo.sh('./isthmus get serviceentries -n xcp-multicluster --dir cluster-2/yaml')).output
  const expectEntry = (name: string, there: boolean) =>
    until(`${name} ${there ? 'appears' : 'goes'}`, SOON_MS, async () =>
      (await entries()).includes(`global-gwinternal-${name}-`) === there ? true : undefined,
    )

  await t.test('a Service that is added to a file is exposed, and gone when it is taken out', async () => {
    const file = join(yaml, 'details.yaml')
    const before = readFileSync(file, 'utf8')
    appendFileSync(
      file,
      '\n---\napiVersion: v1\nkind: Service\nmetadata: {name: extra, namespace: bookinfo}\nspec: {selector: {app: details}, ports: [{name: http, port: 9080, targetPort: http}]}\n',
    )
    await expectEntry('extra', true)
    writeFileSync(file, before)
    await expectEntry('extra', false)
  })
  await t.test('a broken file keeps what it said last, and is reported by name', async (t) => {
    const file = join(yaml, 'productpage.yaml')
    const before = readFileSync(file, 'utf8')
    writeFileSync(file, `${before}\n---\nkind: [Service\n`)
    const status = await until('the status names the file', SOON_MS, async () => {
      const { output } = await demo.sh(`./isthmus status --admin ${discovery.admin}`)
      return output.includes('productpage.yaml') ? output : undefined
    })
    t.match(status, /productpage\.yaml/)
    t.ok(hasTitle((await demo.page('cluster-2')).output), 'the page still answers')
    writeFileSync(file, before)
    await until('the report goes', SOON_MS, async () => {
      const { output } = await demo.sh(`./isthmus status --admin ${discovery.admin}`)
      return output.includes('productpage.yaml') ? undefined : true
    })
    t.ok(hasTitle((await demo.page('cluster-2')).output))
  })
})
