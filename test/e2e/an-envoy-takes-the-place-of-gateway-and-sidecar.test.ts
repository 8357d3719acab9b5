// PROMISE: a real Envoy takes the place of our gateway, then of our sidecar, in the running story, with the same discovery server and
// no other change than where the gateway is found: the page answers (S6), strangers get nothing (S7), what is exposed no longer
// is refused (S8), and reachability holds (S9).
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import t from 'tap'
import { bindAddresses, parseBindRange } from '../../src/resources/bind-address.ts'
import { startEnvoy, WITHOUT_ENVOY } from '../discovery/envoy-process.ts'
import { type Demo, hasTitle, run, serverName, startDemo, until } from './harness.ts'

t.setTimeout(300_000)
const SOON_MS = 30_000
const PRODUCTPAGE = 'productpage.bookinfo.svc.cluster.local'

t.test('the story with Envoys', { skip: WITHOUT_ENVOY }, async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'isthmus-envoy-story-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const demo = await startDemo(t)
  const ours = demo.cluster('cluster-1').gateway?.address ?? ''
  // An address of the demo's own range that no pod has.
  const ip = `${ours.slice(0, ours.lastIndexOf('.'))}.253`
  const gatewayAt = `${ip}:15443`
  const gateway = await startEnvoy(folder, {
    id: `router~${ip}~eastwest-gateway.bookinfo~bookinfo.svc.cluster.local`,
    cluster: 'cluster-1',
    ads: demo.cluster('cluster-1').discovery.ads,
    bind: gatewayAt,
    credential: await credential(demo, folder, 'cluster-1', 'eastwest-gateway'),
  })
  t.teardown(() => gateway.kill('SIGKILL'))
  const { sleep } = demo.cluster('cluster-2').identities
  const { sleep: stranger } = demo.cluster('cluster-3').identities
  const answers = (at: string, service: string, identity = sleep) =>
    demo.knock(at, serverName(service), identity).then(({ output }) => /HTTP\/1\.1 200/.test(output))

  await t.test('as the gateway', async (t) => {
    await until('the Envoy serves', SOON_MS, async () => (await answers(gatewayAt, 'details')) || undefined)
    moveGateway(demo, ip)
    await until('cluster-2 calls the Envoy', SOON_MS, async () => {
      const { output } = await demo.sh(
        './isthmus get serviceentries -n xcp-multicluster --dir cluster-2/yaml',
      )
      return output.includes(` ${gatewayAt}\n`) || undefined
    })
    // The page through our own gateway cannot be what is seen: its processes stand still.
    const pids = demo.cluster('cluster-1').gateway?.pids ?? []
    for (const pid of pids) process.kill(pid, 'SIGSTOP')
    t.teardown(() => resume(pids))
    await demo.pageAnswers('cluster-2', SOON_MS)
    t.pass('S6: the page answers')
    const bare = await demo.knock(gatewayAt, serverName('productpage'))
    t.notMatch(bare.output, /HTTP\//, 'S7: without a certificate no byte')
    resume(pids)
  })

  await t.test('as the sidecar', async (t) => {
    const cidr = `127.${64 + (process.pid % 128)}.0.0/16`
    const sidecar = await startEnvoy(folder, {
      id: 'sidecar~127.0.0.1~sleep.client~client.svc.cluster.local',
      cluster: 'cluster-2',
      ads: demo.cluster('cluster-2').discovery.ads,
      bind: cidr,
      credential: await credential(demo, folder, 'cluster-2', 'sleep', 'client'),
    })
    t.teardown(() => sidecar.kill('SIGKILL'))
    const range = parseBindRange(cidr)
    const address = range.ok ? bindAddresses([PRODUCTPAGE], range.value).get(PRODUCTPAGE) : undefined
    const page = () =>
      run(['curl', '-sS', '--max-time', '5', '--noproxy', '*', `http://${address}:9080/productpage`])
    await until(
      'the page through the Envoy',
      SOON_MS,
      async () => hasTitle((await page()).output) || undefined,
    )
    t.pass('S6: the page answers')
  })

  await t.test('S9: reachability holds at the Envoy', async (t) => {
    t.ok(await answers(gatewayAt, 'productpage', stranger), 'unnamed networks are one')
    for (const cluster of ['cluster-1', 'cluster-2', 'cluster-3'])
      t.equal((await demo.apply(cluster, 'story/reachability.yaml', 'more/cluster-3.yaml')).code, 0)
    await until('the stranger is refused', SOON_MS, async () => {
      return (await answers(gatewayAt, 'productpage', stranger)) ? undefined : true
    })
    t.ok(await answers(gatewayAt, 'productpage'), 'cluster-2 still may')
  })

  await t.test('S8: what is exposed no longer is refused by the Envoy', async (t) => {
    t.ok(await answers(gatewayAt, 'reviews'))
    t.equal(
      (await demo.apply('cluster-1', 'more/gateway-in-eastwest.yaml', 'story/bookinfo-ws-limited.yaml')).code,
      0,
    )
    await until('reviews is refused', SOON_MS, async () =>
      (await answers(gatewayAt, 'reviews')) ? undefined : true,
    )
  })
})

/** An SVID of the cluster's own CA, in files. */
async function credential(
  demo: Demo,
  folder: string,
  cluster: string,
  serviceAccount: string,
  namespace = 'bookinfo',
) {
  const out = join(folder, `${cluster}-${serviceAccount}`)
  const ca = demo.cluster(cluster).ca.cert.replace(/\/[^/]+$/, '')
  const { code, output } = await demo.sh(
    `./isthmus certs issue --ca ${ca} --namespace ${namespace} --service-account ${serviceAccount} --out ${out}`,
  )
  if (code !== 0) throw new Error(output)
  return { certificate: join(out, 'tls.crt'), key: join(out, 'tls.key'), ca: join(out, 'ca.crt') }
}

/** Tells the world that the gateway is found at `ip`. */
function moveGateway(demo: Demo, ip: string): void {
  const annotations = { 'xcp.tetrate.io/cluster-external-addresses': ip }
  const manifest = {
    apiVersion: 'install.tetrate.io/v1alpha1',
    kind: 'IngressGateway',
    metadata: { name: 'eastwest-gateway', namespace: 'bookinfo' },
    spec: { eastWestOnly: true, kubeSpec: { service: { annotations } } },
  }
  const file = join(demo.cluster('cluster-1').yaml, 'ingressgateway.bookinfo.eastwest-gateway.yaml')
  writeFileSync(file, JSON.stringify(manifest))
}

function resume(pids: readonly number[]): void {
  for (const pid of pids) {
    try {
      process.kill(pid, 'SIGCONT')
    } catch {
      // It has been replaced meanwhile.
    }
  }
}
