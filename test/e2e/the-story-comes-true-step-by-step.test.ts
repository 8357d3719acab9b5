// PROMISE: `npm start -- --once` plays S1 to S12 with real processes, its proxies on Node, and exits 0 only if every step came true;
// nothing of it stays behind.
import { existsSync } from 'node:fs'
import t from 'tap'
import { BIN, run } from './harness.ts'

const STEPS = ['S1', 'S2', 'S3', 'S4', 'S5', 'S6', 'S7', 'S8', 'S9', 'S10', 'S11', 'S12']

t.setTimeout(300_000)
t.test('the whole story', async (t) => {
  const { code, output } = await run([process.execPath, BIN, 'demo', '--once'], {
    timeoutMs: 290_000,
    env: { ISTHMUS_RUNTIME: 'node' },
  })
  t.equal(code, 0, 'every step came true')
  if (code !== 0) t.comment(output)
  for (const id of STEPS) t.match(output, new RegExp(`^${id} +\\S`, 'm'), `${id} was played`)
  t.equal(output.match(/✔ true/g)?.length, STEPS.length)
  t.notMatch(output, /✘/)
  const folder = /in (\/\S+)/.exec(output)?.[1] ?? ''
  t.not(folder, '')
  t.notOk(existsSync(folder), 'its folder is gone')
  const { output: processes } = await run(['ps', '-eo', 'args'])
  t.notMatch(processes, new RegExp(folder), 'no process of it is left')
})
