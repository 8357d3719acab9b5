// A service as a process: echoes, half-close included, and tells of every caller that it should never have heard of. Told by
// messages of its parent; ends with it.
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { HEADER_BYTES } from './pattern.ts'

export interface BackendOptions {
  readonly host: string
  readonly port: number
  /** Nobody may call this one at all: its first accept is a violation. */
  readonly forbidden: boolean
}

export type BackendMessage =
  | { readonly listening: number }
  | { readonly violation: string }
  | { readonly open: number }

const say = (message: BackendMessage): void => {
  if (process.connected) process.send?.(message, undefined, undefined, () => {})
}
process.on('disconnect', () => process.exit(0))
process.once('message', (options: BackendOptions) => {
  const sockets = new Set<Socket>()
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (socket) => {
    sockets.add(socket)
    socket.on('error', () => {}).on('close', () => sockets.delete(socket))
    if (options.forbidden) say({ violation: 'a connection to the service that nobody may call' })
    let head = Buffer.alloc(0)
    socket.on('data', (chunk) => {
      if (head.length >= HEADER_BYTES) return
      head = Buffer.concat([head, chunk])
      if (head.length >= 4 && head.toString('latin1', 0, 4) !== 'GOOD')
        say({ violation: `bytes of a forbidden caller: ${JSON.stringify(head.toString('latin1', 0, 40))}` })
    })
    socket.pipe(socket)
  })
  process.on('message', () => say({ open: sockets.size }))
  server.listen(options.port, options.host, () => say({ listening: (server.address() as AddressInfo).port }))
})
