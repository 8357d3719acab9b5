// The discovery server of this benchmark: `isthmus discovery` without the controllers that write, over a store in memory,
// with a gateway and the first services.
// Commands come on standard input, one a line, and are answered by a line of JSON each.
// Usage: server.ts BASE BACKEND_PORT CREDENTIAL_FOLDER PEER_BUNDLE_FILE
import { readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { Discovery } from '../../src/discovery/discovery.ts'
import { CredentialFiles } from '../../src/identity/credential-files.ts'
import { createLogger } from '../../src/lib/log.ts'
import { MemoryStore } from '../discovery/objects.ts'
import { CLUSTER, serviceObjects, worldObjects } from './objects.ts'

const [base = '0', backendPort = '0', directory = '', peerBundle = ''] = process.argv.slice(2)
const logger = createLogger({ level: 'warn', name: 'discovery' })
const store = new MemoryStore()
/** Services from one number to before another. */
const between = (from: number, to: number) =>
  Array.from({ length: to - from }, (_, i) => serviceObjects(from + i, Number(backendPort))).flat()
store.put([...worldObjects(readFileSync(peerBundle, 'utf8')), ...between(0, Number(base))])
const credentials = new CredentialFiles({ directory, logger })
await credentials.start()
const server = new Discovery({
  cluster: CLUSTER,
  store,
  credentials,
  ads: { host: '127.0.0.1', port: 0 },
  logger,
})
await server.start()

createInterface({ input: process.stdin })
  .on('line', (line) => {
    const [command, ...args] = line.split(' ')
    const [first = 0, second = 0] = args.map(Number)
    if (command === 'add') store.put(between(first, second))
    else if (command === 'remove') store.remove(between(first, second))
    else if (command === 'move') store.put(serviceObjects(first, Number(backendPort), second === 1))
    else throw new Error(`unknown command ${line}`)
    console.log(JSON.stringify({ done: command }))
  })
  .on('close', () => process.exit(0))

const { ads } = server.addresses
console.log(JSON.stringify({ ready: { tls: ads && 'port' in ads ? ads.port : 0, plain: 0 } }))
