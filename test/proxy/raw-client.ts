// Clients below TLS: the bytes of a real ClientHello, sent by hand.
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import { backend } from './support.ts'

/** The ClientHello of a real client. */
export async function helloOf(servername: string, protocols: readonly string[]): Promise<Buffer> {
  const trap = await backend(() => {})
  const client = connectTls({
    host: '127.0.0.1',
    port: trap.port,
    servername,
    ALPNProtocols: [...protocols],
  })
  client.on('error', () => {})
  while (trap.accepts === 0) await new Promise((resolve) => setImmediate(resolve))
  const [hello] = (await once(trap.sockets[0] as Socket, 'data')) as [Buffer]
  client.destroy()
  await trap.close()
  return hello
}

export async function dial(port: number): Promise<Socket> {
  const socket = connect({ host: '127.0.0.1', port, allowHalfOpen: true })
  socket.on('error', () => {})
  await once(socket, 'connect')
  return socket
}
