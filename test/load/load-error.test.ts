import t from 'tap'
import { loadError, socketError } from '../../src/load/load-error.ts'
import { ResponseReader } from '../../src/load/response-reader.ts'

t.test('what a target says reaches no terminal as commands, nor the report at any length', async (t) => {
  const reader = new ResponseReader()
  const hostile = `\x1b]0;owned\x07\x9b2J${'x'.repeat(50_000)}`
  reader.read(Buffer.from(`HTTP/1.1 200 OK\r\nTransfer-Encoding: ${hostile}\r\n\r\n`, 'latin1'))
  for (const { message } of [
    loadError('malformed response', reader.problem),
    socketError(new Error(hostile)),
  ]) {
    t.match(message, /owned/)
    t.notMatch(message, /\p{C}/u)
    t.ok(message.length <= 200, `${message.length}`)
  }
})
