// Real gateway processes whose credential comes from an SDS agent and from Istio's CA, and whose trust is decided by local files.
import { once } from 'node:events'
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { connect, type TLSSocket } from 'node:tls'
import t from 'tap'
import { parseCertificate } from '../../src/identity/certificate.ts'
import { IstioCa, keysOf } from '../credentials/istio-ca.ts'
import { rootSecret, SdsAgent } from '../credentials/sds-agent.ts'
import * as m from '../identity/mint.ts'
import { credentialSecret, gone, SNI } from '../proxy/support.ts'
import { echoes, World } from './gateway-world.ts'
import { eventually, getJson } from './pod.ts'

const LOAD = 4
const ROTATIONS = 8

/** Every file below a folder, as one text. */
function textBelow(folder: string): string {
  const files = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) =>
    entry.isFile(),
  )
  return files.map((entry) => readFileSync(join(entry.parentPath, entry.name), 'latin1')).join('\n')
}

t.test('an SDS agent rotates under load: nothing is dropped, and no key is written anywhere', async (t) => {
  const world = await World.create(t)
  const { ca, folder } = world.cluster
  const agent = new SdsAgent(join(folder, 'sds'))
  await agent.start()
  t.teardown(() => agent.stop())
  const issue = () => ca.issue({ namespace: 'bookinfo', serviceAccount: 'gateway' })
  agent.put(credentialSecret(await issue()), rootSecret(ca.rootPem))
  const pod = world.start(t, '--certs', '', '--credentials', `sds:unix:${agent.path}`)
  await pod.ready('gateway')

  let running = true
  let served = 0
  const failures: unknown[] = []
  const load = Array.from({ length: LOAD }, async () => {
    while (running) {
      try {
        const client = await world.connect()
        if ((await echoes(client, 'ping')) === 'ping') served += 1
        client.end()
        await gone(client)
      } catch (error) {
        failures.push(error)
      }
    }
  })
  const held = await world.connect()
  const shown = async (): Promise<string> => {
    const client = await world.connect()
    const serial = client.getPeerX509Certificate()?.serialNumber ?? ''
    client.destroy()
    return serial
  }
  const serials = new Set([await shown()])
  for (let i = 1; i <= ROTATIONS; i += 1) {
    agent.put(credentialSecret(await issue()))
    serials.add(await eventually(shown, (serial) => !serials.has(serial)))
  }
  running = false
  await Promise.all(load)
  t.same(failures, [])
  t.equal(serials.size, ROTATIONS + 1)
  t.ok(served > ROTATIONS, `${served} served`)
  t.equal(await echoes(held, 'still here'), 'still here', 'a connection that was open all the time')
  held.end()
  const bad = pod.lines.filter(({ msg, flag }) => msg === 'access' && flag !== '-' && flag !== 'DC')
  t.same(bad, [])
  t.same(agent.nacks, [])
  t.notMatch(textBelow(world.runDirectory), 'PRIVATE KEY')
  t.notMatch(JSON.stringify(pod.lines), 'PRIVATE KEY')
})

t.test("Istio's CA signs the key of a gateway, which then serves with it", async (t) => {
  const world = await World.create(t)
  const id = 'spiffe://cluster-1.example/ns/bookinfo/sa/gateway'
  const { issuerPem, issuerKeyPem, rootPem, chainPem } = world.cluster.ca
  const issuing = parseCertificate(m.firstDer(issuerPem))
  if (!issuing.ok) throw new Error(issuing.error)
  const keys = { privateKey: m.keyFromPem(issuerKeyPem), spki: new Uint8Array() }
  const issuer = { der: m.firstDer(issuerPem), pem: issuerPem, keyPem: issuerKeyPem, subject: '', keys }
  const ca = new IstioCa(({ csr }) => {
    const leaf = m.mintLeaf(issuer, id, {}, { keys: keysOf(csr), issuerDer: issuing.value.subject })
    return [leaf.pem, chainPem, rootPem]
  })
  await ca.start()
  t.teardown(() => ca.stop())
  const [rootFile, tokenFile] = [
    join(world.cluster.folder, 'istio-root.pem'),
    join(world.cluster.folder, 'token'),
  ]
  writeFileSync(rootFile, ca.rootPem)
  writeFileSync(tokenFile, 'token')
  const source = ['--credentials', `istio-ca:${ca.address}`, '--spiffe-id', id]
  const pod = world.start(t, '--certs', '', ...source, '--ca-root', rootFile, '--ca-token', tokenFile)
  await pod.ready('gateway')
  const client = await world.connect()
  t.equal(await echoes(client, 'hello'), 'hello')
  client.end()
  t.match(await getJson(`${await pod.url('admin')}/status`), {
    body: { credential: { id }, credentialProblems: [] },
  })
  t.equal(ca.asked.length, 1)
})

t.test('a trust domain and its CRL come and go with files, within a second', async (t) => {
  const world = await World.create(t)
  const federation = join(world.cluster.folder, 'federation')
  mkdirSync(federation)
  const pod = world.start(t, '--federation', federation)
  await pod.ready('gateway')
  const root = m.mintRoot('partner')
  const [leaf, other] = [0, 1].map(() => m.mintLeaf(root, 'spiffe://partner.example/ns/shop/sa/cart'))
  const open = ({ pem, keyPem }: { pem: string; keyPem: string }): TLSSocket => {
    const ca = world.cluster.ca.bundlePem
    const to = { host: '127.0.0.1', port: world.port, servername: SNI, checkServerIdentity: () => undefined }
    const socket = connect({ ...to, cert: pem, key: keyPem, ca })
    socket.on('error', () => {})
    return socket
  }
  const served = async (svid: m.Minted): Promise<TLSSocket | undefined> => {
    const socket = open(svid)
    socket.write('ping')
    const answered = await Promise.race([
      once(socket, 'data').then(() => true),
      gone(socket).then(() => false),
    ])
    return answered ? socket : undefined
  }
  if (leaf === undefined || other === undefined) throw new Error('no leaf')
  t.equal(await served(leaf), undefined, 'a trust domain that nobody knows')
  const from = performance.now()
  writeFileSync(join(federation, 'partner.example.pem'), root.pem)
  const client = await eventually(
    () => served(leaf),
    (socket) => socket !== undefined,
  )
  t.ok(performance.now() - from < 1_500)
  const neighbour = await served(other)
  const revoked = performance.now()
  writeFileSync(join(federation, 'partner.example.crl'), m.mintCrl({ issuer: root, revoked: [leaf] }).pem)
  await gone(client as TLSSocket)
  t.ok(performance.now() - revoked < 1_500)
  t.match(await pod.line(({ flag }) => flag === 'ID_REFUSED'), { msg: 'access' })
  t.equal(neighbour?.destroyed, false, 'his neighbour stays')
  const metrics = await (await fetch(`${await pod.url('metrics')}/metrics`)).text()
  t.match(metrics, 'isthmus_crl_revoked_certificates{trust_domain="partner.example",issuer="CN=partner"} 1\n')
  t.match(metrics, /isthmus_crl_expiry_seconds\{trust_domain="partner\.example",issuer="CN=partner"\} 3\d{3}/)
  writeFileSync(join(federation, 'partner.example.pem'), 'broken')
  const admin = await pod.url('admin')
  const problems = await eventually(
    () => getJson(`${admin}/status`),
    ({ body }) => (body as { credentialProblems: string[] }).credentialProblems.length > 0,
  )
  t.match(problems, { body: { credentialProblems: [/partner\.example\.pem/] } })
  neighbour?.destroy()
})
