import type { Duplex } from 'node:stream'

/** A line longer than this is not one of ours. A status names every endpoint, so it may be long. */
const MAX_LINE = 64 * 1024 * 1024

/** Calls back for each line that is a JSON object; a peer that sends anything else is cut off. */
export function onLines(socket: Duplex, callback: (line: object) => void): void {
  let parts: string[] = []
  let length = 0
  socket.setEncoding('utf8')
  socket.on('data', (chunk: string) => {
    const lines = chunk.split('\n')
    parts.push(lines[0] ?? '')
    length += chunk.length
    if (length > MAX_LINE) return void socket.destroy()
    for (const next of lines.slice(1)) {
      const line = parseLine(parts.join(''))
      parts = [next]
      length = next.length
      if (line === undefined) return void socket.destroy()
      callback(line)
    }
  })
}

function parseLine(text: string): object | undefined {
  try {
    const line: unknown = JSON.parse(text)
    return typeof line === 'object' && line !== null ? line : undefined
  } catch {
    return undefined
  }
}
