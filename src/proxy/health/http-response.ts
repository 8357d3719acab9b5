/** A head longer than this is refused. */
const MAX_HEAD = 16_384
/** A body longer than this is not waited for to use the connection again. */
const MAX_SKIPPED = 1_048_576

type Body =
  | { readonly kind: 'length'; left: number }
  | { readonly kind: 'chunked'; left: number; state: 'size' | 'data' | 'crlf' | 'trailer' }
  | { readonly kind: 'until-close' }

/**
 * Reads one HTTP/1.1 response (RFC 9112) from the bytes of a connection: its status, what a health check looks at, and where it ends.
 * Small on purpose: a health check's answer may come from anybody, and Node's client cannot run over a given socket on every runtime.
 */
export class HttpResponseReader {
  /** 0 until the head is there. */
  status = 0
  degraded = false
  /** What the body begins with, up to the limit. */
  body: Buffer = Buffer.alloc(0)
  /** All of it was read, to its last byte. */
  whole = false
  keepAlive = true
  readonly #noBody: boolean
  readonly #bodyLimit: number
  #rest: Buffer = Buffer.alloc(0)
  #body: Body | undefined
  #skipped = 0

  /** `noBody`: the answer to HEAD has none, whatever it says. */
  constructor(noBody: boolean, bodyLimit: number) {
    this.#noBody = noBody
    this.#bodyLimit = bodyLimit
  }

  /** Takes bytes; a problem where they are no acceptable response. */
  push(chunk: Buffer): string | undefined {
    this.#rest = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk])
    while (this.#body === undefined && !this.whole) {
      const end = this.#rest.indexOf('\r\n\r\n')
      if (end > MAX_HEAD || (end < 0 && this.#rest.length > MAX_HEAD))
        return `its head is longer than ${MAX_HEAD} bytes`
      if (end < 0) return undefined
      const head = this.#rest.subarray(0, end).toString('latin1')
      this.#rest = this.#rest.subarray(end + 4)
      const problem = this.#readHead(head)
      if (problem !== undefined) return problem
    }
    return this.#readBody()
  }

  /** The connection has ended. */
  end(): void {
    if (this.#body?.kind === 'until-close') this.whole = true
    this.keepAlive = false
  }

  #readHead(head: string): string | undefined {
    const [statusLine = '', ...lines] = head.split('\r\n')
    const match = /^HTTP\/1\.([01]) ([1-5]\d\d)(?: |$)/.exec(statusLine)
    if (match === null) return `answered no HTTP/1.1: ${JSON.stringify(statusLine.slice(0, 60))}`
    const status = Number(match[2])
    // Interim responses come before the real one.
    if (status < 200 && status !== 101) return undefined
    const headers = new Map<string, string>()
    for (const line of lines) {
      const at = line.indexOf(':')
      if (at > 0) headers.set(line.slice(0, at).toLowerCase(), line.slice(at + 1).trim())
    }
    this.status = status
    this.degraded = headers.has('x-envoy-degraded')
    const connection = headers.get('connection')?.toLowerCase() ?? ''
    this.keepAlive = match[1] === '1' ? !connection.includes('close') : connection.includes('keep-alive')
    const length = headers.get('content-length')
    if (this.#noBody || status === 204 || status === 304 || status === 101) {
      this.whole = true
      if (status === 101) this.keepAlive = false
    } else if (headers.get('transfer-encoding')?.toLowerCase().endsWith('chunked')) {
      this.#body = { kind: 'chunked', left: 0, state: 'size' }
    } else if (length !== undefined) {
      if (!/^\d{1,15}$/.test(length)) return `its content-length is ${JSON.stringify(length.slice(0, 60))}`
      this.#body = { kind: 'length', left: Number(length) }
    } else {
      this.#body = { kind: 'until-close' }
      this.keepAlive = false
    }
    return undefined
  }

  #readBody(): string | undefined {
    const body = this.#body
    if (body === undefined) return undefined
    if (body.kind === 'chunked') return this.#readChunks(body)
    const length = body.kind === 'length' ? Math.min(body.left, this.#rest.length) : this.#rest.length
    this.#take(length)
    if (body.kind === 'length') {
      body.left -= length
      if (body.left === 0) this.whole = true
    }
    return this.#enough()
  }

  #readChunks(body: Body & { kind: 'chunked' }): string | undefined {
    while (!this.whole && this.#rest.length > 0) {
      if (body.state === 'data') {
        const length = Math.min(body.left, this.#rest.length)
        this.#take(length)
        body.left -= length
        if (body.left === 0) body.state = 'crlf'
        continue
      }
      const end = this.#rest.indexOf('\r\n')
      if (end < 0) return this.#rest.length > MAX_HEAD ? 'a chunk has no size' : undefined
      const line = this.#rest.subarray(0, end).toString('latin1')
      this.#rest = this.#rest.subarray(end + 2)
      if (body.state === 'crlf') body.state = 'size'
      else if (body.state === 'trailer') this.whole = line === ''
      else {
        const size = /^([0-9a-fA-F]{1,8})[ \t]*(?:;|$)/.exec(line)?.[1]
        if (size === undefined) return `a chunk's size is ${JSON.stringify(line.slice(0, 60))}`
        body.left = Number.parseInt(size, 16)
        body.state = body.left === 0 ? 'trailer' : 'data'
      }
    }
    return this.#enough()
  }

  #take(length: number): void {
    const room = this.#bodyLimit - this.body.length
    if (room > 0) this.body = Buffer.concat([this.body, this.#rest.subarray(0, Math.min(room, length))])
    this.#rest = this.#rest.subarray(length)
    this.#skipped += length
  }

  /** A body that nobody looks at is read for the sake of the connection only: so much of it, and no more. */
  #enough(): undefined {
    if (!this.whole && this.#body?.kind !== 'until-close' && this.#skipped <= MAX_SKIPPED) return
    if (
      !this.whole &&
      this.#body?.kind === 'until-close' &&
      this.#bodyLimit > 0 &&
      this.#skipped <= MAX_SKIPPED
    )
      return
    if (!this.whole) this.keepAlive = false
    this.whole = true
  }
}
