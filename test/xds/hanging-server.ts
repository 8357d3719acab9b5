// A process that serves xDS on a unix socket until it is killed; says `listening` on its standard output.
import { silentLogger } from '../../src/lib/log.ts'
import { ok } from '../../src/lib/result.ts'
import { XdsServer } from '../../src/xds/server.ts'
import { SnapshotCache } from '../../src/xds/snapshot-cache.ts'
import { TYPE } from '../../src/xds/types.ts'
import { byName, cluster } from './fixtures.ts'

const cache = new SnapshotCache()
cache.setType(TYPE.cluster, byName(cluster('a')))
const server = new XdsServer({ authorize: () => ok(cache), ready: () => true, logger: silentLogger })
await server.listen({ path: process.argv[2] ?? '' })
console.log('listening')
