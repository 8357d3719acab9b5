// The service behind the gateway for the load generator's flows, a process of its own; it counts for itself.
import { Backend } from '../src/load/backend.ts'

if (process.send !== undefined) {
  const backend = await Backend.start({ host: '127.0.0.1', port: 0 })
  process.on('message', () => process.send?.({ counters: backend.counters }))
  process.on('disconnect', () => process.exit(0))
  process.send({ port: backend.port })
}
