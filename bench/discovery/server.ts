// Our discovery server for the benchmark: all of `isthmus discovery`, over a store in memory. Commands come on standard input, one a
// line, and are answered by a line of JSON each. Usage: server.ts SERVICES CREDENTIAL_FOLDER
import { writeFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { DiscoveryProcess } from '../../src/cli/discovery-process.ts'
import { CredentialFiles } from '../../src/identity/credential-files.ts'
import { createLogger } from '../../src/lib/log.ts'
import { MemoryStore, service, slice } from './objects.ts'

const [services = '0', folder = ''] = process.argv.slice(2)
const logger = createLogger({ level: 'warn', name: 'discovery' })
const store = new MemoryStore()
const count = Number(services)
store.put(Array.from({ length: count }, (_, i) => [service(i), slice(i, i)]).flat())
const credentials = new CredentialFiles({ directory: folder, logger })
await credentials.start()
const server = new DiscoveryProcess({
  cluster: 'bench',
  store,
  credentials,
  ads: { host: '127.0.0.1', port: 0 },
  adsPlain: { host: '127.0.0.1', port: 0 },
  logger,
  pods: { cluster: 'bench', image: 'isthmus', discovery: '127.0.0.1:15012' },
})
await server.start()

const answer = (value: unknown): void => console.log(JSON.stringify(value))

/** Every resource of the one view that is watched, for a server of another kind to serve the same. */
function dump(file: string): void {
  const [view] = server.discovery.dump().values()
  const resources = [...(view ?? [])].flatMap(([type, all]) =>
    [...all.values()].map(({ name, body }) => ({ type, name, body: Buffer.from(body).toString('base64') })),
  )
  writeFileSync(file, resources.map((resource) => JSON.stringify(resource)).join('\n'))
}

createInterface({ input: process.stdin })
  .on('line', (line) => {
    const [command, ...args] = line.split(' ')
    const [first = 0, second = 0] = args.map(Number)
    if (command === 'change') store.put([slice(first, second)])
    // What no proxy sees: an annotation that means nothing to us.
    else if (command === 'unseen') store.put([slice(first, second, { note: String(performance.now()) })])
    else if (command === 'dump') dump(args[0] ?? '')
    else if (command === 'collect') globalThis.gc?.()
    else throw new Error(`unknown command ${line}`)
    answer({ done: command })
  })
  .on('close', () => process.exit(0))

const { ads, adsPlain } = server.discovery.addresses
answer({
  ready: {
    tls: ads && 'port' in ads ? ads.port : 0,
    plain: adsPlain && 'port' in adsPlain ? adsPlain.port : 0,
  },
})
