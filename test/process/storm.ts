// Connection attempts one after the other, whatever happens at the other end.
import { connect } from 'node:net'

/** How connection attempts ended: `answered`, or how not. */
export type Outcomes = Record<string, number>

/** What a client says first, and what it expects to hear; the other end closes then, or the client does. */
export interface Exchange {
  readonly say: Buffer
  readonly hear: Buffer
}

function attempt(port: number, { say, hear }: Exchange): Promise<string> {
  return new Promise((resolve) => {
    const received: Buffer[] = []
    const socket = connect({ host: '127.0.0.1', port, noDelay: true })
    socket.on('data', (chunk: Buffer) => {
      received.push(chunk)
      if (Buffer.concat(received).equals(hear)) {
        resolve('answered')
        socket.destroy()
      }
    })
    socket.on('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message))
    socket.on('close', () => resolve('ended without an answer'))
    socket.write(say)
  })
}

/** New connections every millisecond until `stop`; the outcomes once the last of them has ended. */
export function storm(port: number, exchange: Exchange): { stop(): Promise<Outcomes> } {
  const outcomes: Outcomes = {}
  const running = new Set<Promise<void>>()
  const timer = setInterval(() => {
    // When the machine is busy, no more than it can answer.
    if (running.size > 200) return
    const one = attempt(port, exchange).then((outcome) => {
      outcomes[outcome] = (outcomes[outcome] ?? 0) + 1
      running.delete(one)
    })
    running.add(one)
  }, 1)
  return {
    stop: async () => {
      clearInterval(timer)
      await Promise.all(running)
      return outcomes
    },
  }
}
