// `node stopped-client.ts PORT`: subscribes to type `k`, says "ready" once it has an answer, and then whatever it gets.
import { XdsClient } from '../../src/xds/client.ts'
import { NODE } from './fixtures.ts'

const client = new XdsClient({
  target: { address: `127.0.0.1:${process.argv[2]}` },
  node: () => NODE,
  onUpdate: (_typeUrl, { upserted }) => {
    process.stdout.write(`${upserted.map(({ version }) => version).join(' ')}\n`)
    return []
  },
})
client.subscribe('k', '*')
client.start()
