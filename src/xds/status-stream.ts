import type { ServerHttp2Stream } from 'node:http2'
import type { Clock } from '../lib/clock.ts'
import { answerStatus, type ClientConfig, type StatusLimits } from './client-status.ts'
import { closeSoon, GRPC, MessageReader, messagePrefix, type Refusal, trailersOf } from './grpc.ts'

/** A request names clients; this is far more than their names need, bytes. */
const MAX_REQUEST_BYTES = 64 * 1024

export interface StatusHost {
  clients(): Iterable<ClientConfig>
  refused(why: Refusal): void
  readonly clock: Clock
  readonly limits: StatusLimits
}

/** Serves one call of ClientStatusDiscoveryService: an answer for each request, the next only once the last one is read. */
export function serveStatus(stream: ServerHttp2Stream, streaming: boolean, host: StatusHost): void {
  const reader = new MessageReader(MAX_REQUEST_BYTES)
  const waiting: Buffer[] = []
  let ending: Refusal = { code: GRPC.ok, message: '' }
  let blocked = false
  let ended = false
  const end = (why: Refusal) => {
    ending = why
    if (why.code !== GRPC.ok) host.refused(why)
    ended = true
    waiting.length = 0
    stream.end()
    closeSoon(stream, host.clock)
  }
  const work = () => {
    while (!ended && !blocked) {
      const message = waiting.shift()
      if (message === undefined) break
      const answer = answerStatus(message, host.clients(), host.limits)
      if (!answer.ok) return end(answer.error)
      blocked = !stream.write(Buffer.concat([messagePrefix(answer.value.length), answer.value]))
      if (!streaming) end(ending)
    }
    if (ended || waiting.length === 0) stream.resume()
    else stream.pause()
  }
  stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true })
  stream.on('wantTrailers', () => stream.sendTrailers(trailersOf(ending)))
  stream.on('data', (chunk: Buffer) => {
    if (ended) return
    const messages = reader.push(chunk)
    if (!messages.ok) return end(messages.error)
    waiting.push(...messages.value)
    work()
  })
  stream.on('drain', () => {
    blocked = false
    work()
  })
  stream.on('end', () => {
    if (!ended && waiting.length === 0) end(ending)
  })
}
