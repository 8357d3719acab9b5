// What is done before anybody is known: reading a ClientHello, whole, in pieces, and one that is refused.
import { Duplex } from 'node:stream'
import { connect } from 'node:tls'
import { parseClientHello } from '../../src/proxy/client-hello.ts'
import { HelloBuffer } from '../../src/proxy/hello-buffer.ts'
import type { Micro } from './micro.ts'

const NAME = 'outbound_.9080_._.productpage.bookinfo.svc.cluster.local'
const RECORD_HEADER = 5
const RECORDS = 16

/** The first flight of this runtime's own TLS client. */
function recordHello(servername: string): Promise<Buffer> {
  return new Promise((resolve) => {
    const wire = new Duplex({
      read() {},
      write(chunk: Buffer, _encoding, done) {
        resolve(Buffer.from(chunk))
        done()
      },
      writev(chunks, done) {
        resolve(Buffer.concat(chunks.map(({ chunk }) => chunk as Buffer)))
        done()
      },
    })
    connect({ socket: wire, servername, ALPNProtocols: ['istio'] }).on('error', () => {})
  })
}

/** The same handshake message in several records, one segment for each. */
function inRecords(hello: Buffer, records: number): Buffer[] {
  const message = hello.subarray(RECORD_HEADER)
  const size = Math.ceil(message.length / records)
  return Array.from({ length: records }, (_, i) => {
    const fragment = message.subarray(i * size, (i + 1) * size)
    const header = Buffer.from([22, 3, 1, fragment.length >> 8, fragment.length & 0xff])
    return Buffer.concat([header, fragment])
  })
}

function parse(bytes: Buffer): unknown {
  return parseClientHello(bytes)
}

export async function clientHelloMicros(): Promise<Micro[]> {
  const hello = await recordHello(NAME)
  // The byte before the last of the name: one that no name has.
  const broken = Buffer.from(hello)
  broken[broken.indexOf(NAME) + NAME.length - 2] = 0x01
  const segments = inRecords(hello, RECORDS)
  if (parseClientHello(hello).kind !== 'hello' || parseClientHello(broken).kind !== 'error')
    throw new Error('this runtime says hello in a way that is not understood')
  return [
    { name: 'ClientHello, whole', once: () => parse(hello) },
    { name: 'ClientHello with a broken name', beside: 'ClientHello, whole', once: () => parse(broken) },
    {
      name: `ClientHello in ${RECORDS} records and segments`,
      beside: 'ClientHello, whole',
      once: () => {
        const buffer = new HelloBuffer()
        let result: unknown
        for (const segment of segments) result = buffer.push(segment)
        return result
      },
    },
  ]
}
