// Whoever is compared does the job: callers are verified, the name decides, nothing is resumed. Otherwise a peer would be cheap for what
// it leaves out.
import { type ConnectionOptions, connect, type TLSSocket } from 'node:tls'
import t from 'tap'
import { Harness } from '../../bench/harness.ts'
import { startTarget, TARGETS, type Target } from '../../bench/targets.ts'
import { createCa } from '../../src/identity/ca.ts'

interface Outcome {
  /** What the backend's answer was; empty where there was none. */
  readonly answer: string
  readonly reused: boolean
  readonly session?: Buffer
}

/** One connection and one request of five bytes. */
function call(options: ConnectionOptions): Promise<Outcome> {
  return new Promise((resolve) => {
    let answer = ''
    let session: Buffer | undefined
    let reused = false
    const socket: TLSSocket = connect({ host: '127.0.0.1', checkServerIdentity: () => undefined, ...options })
    socket.on('session', (ticket: Buffer) => {
      session = ticket
    })
    socket.on('secureConnect', () => {
      reused = socket.isSessionReused()
      socket.write('D5\n')
    })
    socket.on('data', (data) => {
      answer += data.toString()
      if (answer.length === 5) socket.end()
    })
    socket.on('error', () => {})
    socket.on('close', () => resolve({ answer, reused, ...(session !== undefined && { session }) }))
  })
}

t.test('every target verifies the caller, routes by the name alone, and resumes nothing', async (t) => {
  const harness = await Harness.start()
  t.teardown(() => harness.stop())
  const { caPem: ca, certificatePem: cert, privateKeyPem: key, serverNames } = harness.loadTls
  const servername = serverNames[0] ?? ''
  const stranger = await createCa({ trustDomain: harness.job.trustDomain })
  const forged = await stranger.issue({ namespace: 'bench', serviceAccount: 'client', lifetimeMs: 3_600_000 })
  for (const kind of TARGETS) {
    let target: Target
    try {
      kind.version()
    } catch (error) {
      t.notOk(process.env['CI'], `${kind.name} is missing: ${error}`)
      continue
    }
    target = await startTarget(kind, harness.job, harness.folderOf(kind.name))
    try {
      const good = { port: target.port, servername, ca, cert, key }
      const first = await call(good)
      t.equal(first.answer, 'xxxxx', `${kind.name}: who may call is answered`)
      const again = await call({ ...good, ...(first.session !== undefined && { session: first.session }) })
      t.same([again.answer, again.reused], ['xxxxx', false], `${kind.name}: no session is resumed`)
      const { cert: _, key: __, ...anonymous } = good
      t.equal((await call(anonymous)).answer, '', `${kind.name}: nobody without a certificate`)
      const { certificatePem, privateKeyPem } = forged
      const wrong = { ...good, cert: certificatePem, key: privateKeyPem }
      t.equal((await call(wrong)).answer, '', `${kind.name}: nobody of another CA`)
      t.equal(
        (await call({ ...good, servername: `x${servername}` })).answer,
        '',
        `${kind.name}: no other name`,
      )
    } finally {
      await target.stop()
    }
  }
})
