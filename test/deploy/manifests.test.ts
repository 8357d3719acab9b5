// The manifests as a cluster would run them: rendered by kubectl, each container's exact command on its mounted files, as the
// image's user, on a read-only root, with only what the image holds; and another cluster's client reaches the service (S6).
import { type ChildProcess, execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import t from 'tap'
import { parseAllDocuments } from 'yaml'
import { type Ca, createCa } from '../../src/identity/ca.ts'
import { buildApp, IMAGE_UID, type Mount, PodNetwork } from './pods.ts'

const repository = join(dirname(fileURLToPath(import.meta.url)), '..', '..')
const isthmus = join(repository, 'src', 'isthmus.js')

interface Rendered {
  readonly kind: string
  readonly metadata: { readonly name: string; readonly namespace: string }
  readonly data?: Record<string, string>
  readonly spec: { readonly template: { readonly spec: PodTemplate } }
}
interface PodTemplate {
  readonly securityContext: Record<string, unknown>
  readonly containers: readonly [ContainerTemplate]
  readonly volumes: readonly {
    name: string
    configMap?: { name: string }
    secret?: { secretName: string }
    emptyDir?: object
  }[]
}
interface ContainerTemplate {
  readonly command: readonly string[]
  readonly args: readonly string[]
  readonly env: readonly {
    name: string
    value?: string
    valueFrom?: { configMapKeyRef: { name: string; key: string } }
  }[]
  readonly volumeMounts: readonly { name: string; mountPath: string }[]
  readonly securityContext: Record<string, unknown>
  readonly lifecycle?: { readonly preStop: { readonly exec: { readonly command: readonly string[] } } }
}

function missingTool(): string | undefined {
  for (const tool of ['kubectl', 'ip', 'unshare', 'nsenter', 'setpriv', 'curl']) {
    try {
      execFileSync('sh', ['-c', `command -v ${tool}`], { stdio: 'ignore' })
    } catch {
      return tool
    }
  }
  return undefined
}

const missing = missingTool()
if (missing !== undefined && process.env['CI'] === undefined) {
  t.pass(`skipped: ${missing} is not installed`, { skip: `${missing} is not installed` })
  process.exit(0)
}

const render = (): Rendered[] =>
  parseAllDocuments(
    execFileSync('kubectl', ['kustomize', join(repository, 'deploy', 'kustomize', 'base')], {
      encoding: 'utf8',
    }),
  ).map((document) => document.toJS() as Rendered)

const credentialFiles = async (
  ca: Ca,
  namespace: string,
  serviceAccount: string,
): Promise<Record<string, string>> => {
  const issued = await ca.issue({ namespace, serviceAccount, lifetimeMs: 3_600_000 })
  return { 'tls.crt': issued.certificatePem, 'tls.key': issued.privateKeyPem, 'ca.crt': ca.bundlePem }
}

/** Lines of a process's log until one satisfies `wanted`. */
function lineOf(child: ChildProcess, what: string, wanted: (line: string) => boolean): Promise<string> {
  return new Promise((resolve, reject) => {
    if (child.stdout === null) throw new Error('no standard output')
    const seen: string[] = []
    createInterface({ input: child.stdout }).on('line', (line) => {
      seen.push(line)
      if (wanted(line)) resolve(line)
    })
    child.once('exit', (code, signal) =>
      reject(new Error(`${what} ended with ${code ?? signal}:\n${seen.slice(-20).join('\n')}`)),
    )
  })
}

async function eventually<T>(what: string, attempt: () => T | undefined): Promise<T> {
  let last: unknown
  for (
    const until = Date.now() + 20_000;
    Date.now() < until;
    await new Promise((resolve) => setTimeout(resolve, 100))
  ) {
    try {
      const value = attempt()
      if (value !== undefined) return value
    } catch (error) {
      last = error
    }
  }
  throw new Error(`${what} did not come true within 20 s${last instanceof Error ? `: ${last.message}` : ''}`)
}

t.test('the manifests, rendered and run container by container, serve another cluster', async (t) => {
  const documents = render()
  const find = (kind: string, namespace: string, name: string): Rendered => {
    const found = documents.find(
      (each) => each.kind === kind && each.metadata.namespace === namespace && each.metadata.name === name,
    )
    if (found === undefined) throw new Error(`no ${kind} ${namespace}/${name} in the rendered manifests`)
    return found
  }
  const work = mkdtempSync(join(tmpdir(), 'isthmus-deploy-'))
  const network = await PodNetwork.create('10.0.0.1')
  t.teardown(async () => {
    await network.close()
    rmSync(work, { recursive: true, force: true })
  })
  const app = join(work, 'app')
  mkdirSync(app)
  buildApp(repository, app)
  t.notOk(existsSync(join(app, 'node_modules', 'typescript')), 'the image has no development packages')

  const ours = await createCa({ trustDomain: 'cluster-1.local' })
  const theirs = await createCa({ trustDomain: 'cluster-2.local' })
  const secrets: Record<string, Record<string, string>> = {
    'isthmus-discovery-certs': await credentialFiles(ours, 'isthmus-system', 'isthmus-discovery'),
    'eastwest-gateway-certs': await credentialFiles(ours, 'bookinfo', 'eastwest-gateway'),
  }
  const run = (
    namespace: string,
    name: string,
    pod: number,
    hosts: readonly string[],
  ): { container: ContainerTemplate; process: ChildProcess } => {
    const template = find('Deployment', namespace, name).spec.template.spec
    const container = template.containers[0]
    t.match(template.securityContext, { runAsNonRoot: true, runAsUser: 65_532 })
    t.match(container.securityContext, {
      readOnlyRootFilesystem: true,
      allowPrivilegeEscalation: false,
      capabilities: { drop: ['ALL'] },
    })
    const env = Object.fromEntries(
      container.env.map(({ name, value, valueFrom }) => [
        name,
        value ??
          find('ConfigMap', namespace, valueFrom?.configMapKeyRef.name ?? '').data?.[
            valueFrom?.configMapKeyRef.key ?? ''
          ] ??
          '',
      ]),
    )
    const mounts = container.volumeMounts.map(({ name, mountPath }): Mount => {
      const volume = template.volumes.find((each) => each.name === name)
      if (volume?.configMap !== undefined)
        return { path: mountPath, files: find('ConfigMap', namespace, volume.configMap.name).data ?? {} }
      if (volume?.secret !== undefined)
        return { path: mountPath, files: secrets[volume.secret.secretName] ?? {} }
      return { path: mountPath }
    })
    const command = [...container.command, ...container.args].map((word) =>
      word.replace(/\$\((\w+)\)/g, (_, variable: string) => env[variable] ?? ''),
    )
    return {
      container,
      process: network.container(pod, name, { command, env, mounts, hosts, app, node: process.execPath }),
    }
  }

  // The addresses are those of the ConfigMap: the endpoint, and the load balancer, here the gateway pod itself.
  const productpagePod = await network.pod(['10.0.0.11'])
  const discoveryPod = await network.pod(['10.0.0.12'])
  const gatewayPod = await network.pod(['10.0.0.13'])
  network.run('ip addr add 192.0.2.10/32 dev eth0', gatewayPod)
  network.run('ip route add 192.0.2.10/32 dev br0')

  const page = network.container(productpagePod, 'productpage', {
    command: [
      'node',
      '-e',
      `require('http').createServer((_, res) => res.end('<title>Simple Bookstore App</title>')).listen(9080, '0.0.0.0', () => console.log('listening'))`,
    ],
    env: {},
    mounts: [],
    hosts: [],
    app,
    node: process.execPath,
  })
  await lineOf(page, 'productpage', (line) => line === 'listening')
  const discovery = run('isthmus-system', 'isthmus-discovery', discoveryPod, [])
  await lineOf(discovery.process, 'discovery', (line) => line.includes('"msg":"ready"'))
  const gateway = run('bookinfo', 'eastwest-gateway', gatewayPod, [
    '10.0.0.12 isthmus-discovery.isthmus-system.svc',
  ])
  const curl = (args: string, pod?: number): string => network.run(`curl -sS -m 5 ${args}`, pod)
  await eventually('the gateway is ready', () =>
    curl('-o /dev/null -w "%{http_code}" http://127.0.0.1:15021/readyz', gatewayPod) === '200'
      ? true
      : undefined,
  )
  t.equal(
    curl('-o /dev/null -w "%{http_code}" http://127.0.0.1:15021/livez', discoveryPod),
    '200',
    'discovery is alive on the probe port',
  )
  t.match(curl('http://127.0.0.1:15020/metrics', gatewayPod), /^# HELP /m, 'metrics are served to all')

  t.test('each runs as the image’s user, without privileges', async (t) => {
    for (const { process: child } of [discovery, gateway]) {
      const status = readFileSync(`/proc/${child.pid}/status`, 'utf8')
      t.match(status, new RegExp(`^Uid:\\s+${IMAGE_UID}\\s`, 'm'))
      t.match(status, /^NoNewPrivs:\s+1$/m)
      if (IMAGE_UID === 65_532) t.match(status, /^CapBnd:\s+0+$/m)
    }
  })

  t.test('an edited ConfigMap takes effect without a restart: the peer is added', async (t) => {
    const files = find('ConfigMap', 'isthmus-system', 'isthmus-objects').data ?? {}
    PodNetwork.project(network.mountOf('isthmus-discovery', '/etc/isthmus/objects'), {
      ...files,
      'peer.yaml': peer('cluster-2', 'cluster-2.local', theirs.bundlePem, ''),
    })
    await eventually('discovery knows the peer', () =>
      curl('http://127.0.0.1:15000/status', discoveryPod).includes('cluster-2') ? true : undefined,
    )
    t.pass('it does')
  })

  t.test('S6: the other cluster’s client reaches productpage by its name', async (t) => {
    const objects = join(work, 'cluster-2')
    mkdirSync(objects)
    writeFileSync(
      join(objects, 'peer.yaml'),
      peer('cluster-1', 'cluster-1.local', ours.bundlePem, '10.0.0.12:15012'),
    )
    const certs = async (namespace: string, serviceAccount: string): Promise<string> => {
      const folder = join(work, serviceAccount)
      mkdirSync(folder)
      for (const [file, text] of Object.entries(await credentialFiles(theirs, namespace, serviceAccount)))
        writeFileSync(join(folder, file), text, { mode: 0o600 })
      return folder
    }
    const far = network.start(process.execPath, [
      isthmus,
      'discovery',
      '--cluster',
      'cluster-2',
      '--objects',
      objects,
      '--certs',
      await certs('isthmus-system', 'isthmus-discovery'),
      '--ads',
      '127.0.0.1:15012',
      '--ads-plain',
      'off',
      '--admin',
      '127.0.0.1:15000',
      '--health',
      '127.0.0.1:0',
      '--metrics',
      '127.0.0.1:0',
    ])
    await lineOf(far, 'the other discovery', (line) => line.includes('"msg":"ready"'))
    const sidecar = network.start(process.execPath, [
      isthmus,
      'sidecar',
      '--cluster',
      'cluster-2',
      '--name',
      'sleep',
      '--namespace',
      'default',
      '--discovery',
      '127.0.0.1:15012',
      '--certs',
      await certs('default', 'sleep'),
      '--run-dir',
      join(work, 'run'),
      '--dns',
      '127.0.0.1:0',
      '--socks',
      '127.0.0.1:0',
      '--connect',
      '127.0.0.1:15081',
      '--admin',
      '127.0.0.1:0',
      '--health',
      '127.0.0.1:0',
      '--metrics',
      '127.0.0.1:0',
    ])
    const alive = lineOf(sidecar, 'the sidecar', () => false)
    alive.catch(() => undefined)
    const body = await eventually('the page comes', () => {
      const answer = curl('-p -x http://127.0.0.1:15081 http://productpage.bookinfo:9080/productpage')
      return answer.includes('<title>') ? answer : undefined
    })
    t.match(body, '<title>Simple Bookstore App</title>')
  })

  t.test('preStop drains the gateway, and SIGTERM ends it with 0', async (t) => {
    const preStop = gateway.container.lifecycle?.preStop.exec.command ?? []
    // kubectl exec enters the container's root as the container's user.
    const privileges =
      IMAGE_UID === 65_532
        ? ['setpriv', `--reuid=${IMAGE_UID}`, `--regid=${IMAGE_UID}`, '--clear-groups']
        : []
    const inside = ['--net', '--mount', '--root', '--wd', '--target', String(gateway.process.pid), '--']
    execFileSync(
      'nsenter',
      [
        ...(process.getuid?.() === 0 ? [] : ['--user', '--preserve-credentials']),
        ...inside,
        ...privileges,
        '/usr/bin/env',
        '-i',
        'PATH=/usr/local/bin:/usr/bin',
        ...preStop,
      ],
      { stdio: ['ignore', 'inherit', 'inherit'], timeout: 30_000 },
    )
    const gone = once(gateway.process, 'exit')
    gateway.process.kill('SIGTERM')
    t.same(await gone, [0, null])
  })
})

function peer(cluster: string, trustDomain: string, bundle: string, adsAddress: string): string {
  return JSON.stringify({
    apiVersion: 'v1',
    kind: 'Secret',
    metadata: {
      name: `isthmus-peer-${cluster}`,
      namespace: 'isthmus-system',
      labels: { 'isthmus.io/peer': 'true' },
    },
    stringData: { cluster, trustDomain, bundle, adsAddress },
  })
}
