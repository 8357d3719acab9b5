// The framing of HTTP/1.1 responses (RFC 9112 sections 2, 6, 7), for a client that has one request under way on a connection. What
// headers say beyond that is nobody's business here. Nothing is allocated for a response whose head is the one before it.

/** Of a head; a line of chunk framing; more is no answer to a small request. */
const MAX_HEAD = 65_536
const HEAD_END = Buffer.from('\r\n\r\n')
const CR = 13
const LF = 10

/** What is to come next. */
const NEXT = { head: 0, length: 1, size: 2, chunk: 3, chunkEnd: 4, trailer: 5, close: 6, done: 7 } as const
type State = (typeof NEXT)[keyof typeof NEXT]

export class ResponseReader {
  /** Of the response under way or just over. */
  status = 0
  /** Whether the server ends the connection after it. */
  closing = false
  /** Bytes of bodies, chunk framing left out, since this reader was made. */
  bodyBytes = 0
  /** Why what came is no response; empty as long as it may be one. */
  problem = ''
  #state: State = NEXT.head
  /** Bytes of the body, or of the chunk, that are to come. */
  #left = 0
  /** A head, or a line of chunk framing, that came in part. */
  #partial: Buffer | undefined
  #line = ''
  /** The head before, as bytes: most services answer with the same one for a second. */
  #lastHead: Buffer = Buffer.alloc(0)
  #lastState: State = NEXT.done
  #lastLeft = 0

  /** Of the next response on this connection. */
  reset(): void {
    this.#state = NEXT.head
    this.#partial = undefined
  }

  /** Whether a byte of the response has come. */
  get begun(): boolean {
    return this.#state !== NEXT.head || this.#partial !== undefined
  }

  /** Takes bytes as they come; true once the response is whole. Bytes after it are a `problem`: nobody asked for them. */
  read(chunk: Buffer): boolean {
    let at = 0
    while (at < chunk.length && this.problem === '') {
      switch (this.#state) {
        case NEXT.head:
          at = this.#readHead(chunk, at)
          break
        case NEXT.length:
        case NEXT.chunk:
          at = this.#readBody(chunk, at)
          break
        case NEXT.close:
          this.bodyBytes += chunk.length - at
          return false
        case NEXT.done:
          this.problem = 'bytes after the end of a response'
          break
        default:
          at = this.#readLine(chunk, at)
      }
    }
    return this.#state === NEXT.done && this.problem === ''
  }

  /** The server has ended the connection: true if that ends a response, and it had one under way. */
  end(): boolean {
    if (this.#state !== NEXT.close) return false
    this.#state = NEXT.done
    return true
  }

  #readHead(chunk: Buffer, at: number): number {
    const last = this.#lastHead
    // A status of 0 was never seen: the buffer is empty then, and equal to anything.
    if (this.#partial === undefined && last.length > 0 && chunk.length - at >= last.length) {
      if (chunk.compare(last, 0, last.length, at, at + last.length) === 0) {
        this.#state = this.#lastState
        this.#left = this.#lastLeft
        return at + last.length
      }
    }
    const bytes =
      this.#partial === undefined ? chunk.subarray(at) : Buffer.concat([this.#partial, chunk.subarray(at)])
    const end = bytes.indexOf(HEAD_END)
    if (end < 0) {
      // What is received lies in a buffer that is used again.
      this.#partial = Buffer.from(bytes)
      if (bytes.length > MAX_HEAD) this.problem = `a head of over ${MAX_HEAD} bytes`
      return chunk.length
    }
    this.#partial = undefined
    this.#parseHead(bytes.subarray(0, end + HEAD_END.length))
    return chunk.length - (bytes.length - end - HEAD_END.length)
  }

  #parseHead(head: Buffer): void {
    const [first = '', ...lines] = head.toString('latin1').trimEnd().split('\r\n')
    const status = /^HTTP\/1\.([01]) (\d{3})(?: |$)/.exec(first)
    if (status === null) {
      this.problem = `not an HTTP/1.1 response: ${JSON.stringify(first.slice(0, 40))}`
      return
    }
    const code = Number(status[2])
    // An interim response: the real one follows.
    if (code < 200 && code !== 101) return
    this.status = code
    const fields = new Map<string, string>()
    for (const line of lines) {
      const name = line.slice(0, line.indexOf(':')).toLowerCase()
      const value = line.slice(line.indexOf(':') + 1).trim()
      const before = fields.get(name)
      if (name === 'content-length' && before !== undefined && before !== value)
        this.problem = `two lengths of one response: ${before} and ${value}`
      fields.set(name, value)
    }
    const connection = (fields.get('connection') ?? '').toLowerCase()
    this.closing = connection.includes('close') || (status[1] === '0' && !connection.includes('keep-alive'))
    this.#frame(code, fields.get('transfer-encoding')?.toLowerCase(), fields.get('content-length'))
    // A head that ends the connection ends what might be compared with it.
    this.#lastHead = this.closing ? Buffer.alloc(0) : Buffer.from(head)
    this.#lastState = this.#state
    this.#lastLeft = this.#left
  }

  /** RFC 9112 section 6.3. */
  #frame(code: number, encoding: string | undefined, length: string | undefined): void {
    if (code === 101) this.problem = 'the server switched to another protocol'
    else if (code === 204 || code === 304) this.#state = NEXT.done
    else if (encoding === 'chunked') this.#state = NEXT.size
    else if (encoding !== undefined) this.problem = `Transfer-Encoding: ${encoding}`
    else if (length === undefined) {
      this.#state = NEXT.close
      this.closing = true
    } else if (!/^\d{1,15}$/.test(length)) this.problem = `Content-Length: ${length}`
    else {
      this.#left = Number(length)
      this.#state = this.#left === 0 ? NEXT.done : NEXT.length
    }
  }

  #readBody(chunk: Buffer, at: number): number {
    const taken = Math.min(this.#left, chunk.length - at)
    this.#left -= taken
    this.bodyBytes += taken
    if (this.#left === 0) this.#state = this.#state === NEXT.length ? NEXT.done : NEXT.chunkEnd
    return at + taken
  }

  /** Chunk framing: a size, the end of a chunk, or a trailer. */
  #readLine(chunk: Buffer, at: number): number {
    const end = chunk.indexOf(LF, at)
    const until = end < 0 ? chunk.length : end
    this.#line += chunk.toString('latin1', at, until)
    if (this.#line.length > MAX_HEAD) this.problem = `a line of chunk framing of over ${MAX_HEAD} bytes`
    if (end < 0) return chunk.length
    const line = this.#line.charCodeAt(this.#line.length - 1) === CR ? this.#line.slice(0, -1) : this.#line
    this.#line = ''
    this.#takeLine(line)
    return end + 1
  }

  #takeLine(line: string): void {
    if (this.#state === NEXT.trailer) {
      if (line === '') this.#state = NEXT.done
    } else if (this.#state === NEXT.chunkEnd) {
      if (line === '') this.#state = NEXT.size
      else this.problem = `a chunk that is longer than it says: ${JSON.stringify(line.slice(0, 40))}`
    } else {
      const size = /^([0-9a-f]{1,12})[ \t]*(?:;.*)?$/i.exec(line)?.[1]
      if (size === undefined) this.problem = `no size of a chunk: ${JSON.stringify(line.slice(0, 40))}`
      else {
        this.#left = Number.parseInt(size, 16)
        this.#state = this.#left === 0 ? NEXT.trailer : NEXT.chunk
      }
    }
  }
}
