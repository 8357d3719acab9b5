// The thing under load: a real discovery server and a real gateway, started as an operator starts them.
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { createCa } from '../src/identity/ca.ts'
import { writeCredential } from '../src/identity/ca-folder.ts'
import { DISCOVERY_ACCOUNT, DISCOVERY_NAMESPACE } from '../src/identity/spiffe-id.ts'

const isthmus = join(dirname(fileURLToPath(import.meta.url)), '..', 'src', 'isthmus.js')
const TRUST_DOMAIN = 'bench.local'

export interface Target {
  readonly host: string
  readonly port: number
  readonly servername: string
  readonly client: { readonly certificatePem: string; readonly privateKeyPem: string; readonly caPem: string }
  readonly workerPid: number
  stop(): Promise<void>
}

/** Starts both on free loopback ports and resolves when the gateway forwards to `backendPort`. */
export async function startTarget(backendPort: number): Promise<Target> {
  const folder = mkdtempSync(join(tmpdir(), 'isthmus-bench-'))
  const children: ChildProcess[] = []
  const stop = async (): Promise<void> => {
    await Promise.all(children.map(end))
    rmSync(folder, { recursive: true, force: true })
  }
  try {
    const ca = await createCa({ trustDomain: TRUST_DOMAIN })
    const credential = async (name: string, namespace: string, serviceAccount: string): Promise<string> => {
      const directory = join(folder, name)
      const issued = await ca.issue({ namespace, serviceAccount, lifetimeMs: 3_600_000 })
      await writeCredential(directory, { ...issued, bundlePem: ca.bundlePem })
      return directory
    }
    const objects = join(folder, 'objects')
    mkdirSync(objects)
    writeFileSync(join(objects, 'bench.yaml'), objectsYaml(backendPort))
    const anyPort = { admin: '127.0.0.1:0', health: '127.0.0.1:0', metrics: '127.0.0.1:0' }

    const discovery = launch(children, 'discovery', {
      ...anyPort,
      cluster: 'bench',
      objects,
      certs: await credential('discovery', DISCOVERY_NAMESPACE, DISCOVERY_ACCOUNT),
      ads: '127.0.0.1:0',
      'ads-plain': 'off',
    })
    const ads = await discovery.ready((line) => addressIn(line['ads']))
    const gateway = launch(children, 'gateway', {
      ...anyPort,
      cluster: 'bench',
      name: 'eastwest',
      namespace: 'bench',
      discovery: ads,
      'run-dir': join(folder, 'run'),
      certs: await credential('gateway', 'bench', 'eastwest'),
      bind: '127.0.0.1:0',
    })
    const address = await gateway.ready(
      (line) => (line['listeners'] as { address: string }[] | undefined)?.[0]?.address,
    )
    const client = await ca.issue({ namespace: 'bench', serviceAccount: 'client', lifetimeMs: 3_600_000 })
    const workerPid = childRunning(gateway.child.pid ?? 0, 'worker')
    return {
      host: '127.0.0.1',
      port: Number(address.split(':')[1]),
      servername: 'outbound_.80_._.backend.bench.svc.cluster.local',
      client: {
        certificatePem: client.certificatePem,
        privateKeyPem: client.privateKeyPem,
        caPem: ca.bundlePem,
      },
      workerPid,
      stop,
    }
  } catch (error) {
    await stop()
    throw error
  }
}

function launch(children: ChildProcess[], command: string, flags: Readonly<Record<string, string>>) {
  const args = [command, ...Object.entries(flags).map(([name, value]) => `--${name}=${value}`)]
  const child = spawn(process.execPath, [isthmus, ...args], {
    // The fourth is the lifeline: however the benchmark ends, what it started ends with it.
    stdio: ['ignore', 'pipe', 'inherit', 'pipe'],
    env: { ...process.env, ISTHMUS_LIFELINE_FD: '3' },
  })
  children.push(child)
  const waiting = new Set<(line: Record<string, unknown>) => void>()
  if (child.stdout === null) throw new Error('no standard output')
  createInterface({ input: child.stdout }).on('line', (line) => {
    // Only start-up lines are looked at: parsing an access log under load would be the harness measuring itself.
    if (waiting.size === 0 || !line.includes('"ready"')) return
    for (const take of waiting) take(JSON.parse(line) as Record<string, unknown>)
  })
  const ready = (pick: (line: Record<string, unknown>) => string | undefined): Promise<string> =>
    new Promise((resolve, reject) => {
      child.once('exit', (code) =>
        reject(new Error(`isthmus ${command} ended with ${code} before it was ready`)),
      )
      const take = (line: Record<string, unknown>): void => {
        const picked = pick(line)
        if (picked === undefined) return
        waiting.delete(take)
        resolve(picked)
      }
      waiting.add(take)
    })
  return { child, ready }
}

function addressIn(value: unknown): string | undefined {
  if (typeof value === 'string') return value
  const { host, port } = (value ?? {}) as { host?: string; port?: number }
  return host === undefined || port === undefined ? undefined : `${host}:${port}`
}

function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return Promise.resolve()
  return new Promise((resolve) => {
    child.once('exit', () => resolve())
    child.kill('SIGTERM')
    setTimeout(() => child.kill('SIGKILL'), 5_000).unref()
  })
}

/** The child of `parent` whose command line has `word`. */
function childRunning(parent: number, word: string): number {
  const children = readFileSync(`/proc/${parent}/task/${parent}/children`, 'utf8')
    .trim()
    .split(' ')
    .map(Number)
  const found = children.find((pid) =>
    readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').includes(word),
  )
  if (found === undefined) throw new Error(`process ${parent} has no child that runs ${word}`)
  return found
}

function objectsYaml(backendPort: number): string {
  return `
apiVersion: v1
kind: Service
metadata: {name: backend, namespace: bench}
spec: {ports: [{name: tcp, port: 80, targetPort: ${backendPort}}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: backend-1, namespace: bench, labels: {kubernetes.io/service-name: backend}}
addressType: IPv4
ports: [{name: tcp, port: ${backendPort}, protocol: TCP}]
endpoints: [{addresses: [127.0.0.1], conditions: {ready: true}}]
---
apiVersion: install.tetrate.io/v1alpha1
kind: IngressGateway
metadata: {name: eastwest, namespace: bench}
spec: {eastWestOnly: true}
---
apiVersion: api.tsb.tetrate.io/v2
kind: Workspace
metadata: {organization: bench, tenant: bench, name: bench}
spec: {namespaceSelector: {names: ["*/bench"]}}
---
apiVersion: api.tsb.tetrate.io/v2
kind: WorkspaceSetting
metadata: {organization: bench, tenant: bench, workspace: bench, name: bench}
spec: {defaultEastWestGatewaySettings: [{workloadSelector: {namespace: bench, labels: {app: eastwest}}}]}
`
}
