// What the process tests share: a discovery server in this process, and pods that are real processes of `isthmus`.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { type AddressInfo, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type Ca, createCa } from '../../src/identity/ca.ts'
import { writeCredential } from '../../src/identity/ca-folder.ts'
import { parseCredential } from '../../src/identity/credential.ts'
import { serverTlsOptions } from '../../src/identity/tls.ts'
import { TrustBundles } from '../../src/identity/trust-bundle.ts'
import { silentLogger } from '../../src/lib/log.ts'
import { ok } from '../../src/lib/result.ts'
import { XdsServer } from '../../src/xds/server.ts'
import type { ClientStatus } from '../../src/xds/server-stream.ts'
import { SnapshotCache } from '../../src/xds/snapshot-cache.ts'
import type { NodeInfo, XdsResource } from '../../src/xds/types.ts'
import { LoggedProcess, type Scope } from './logged-process.ts'

export type { Scope }
export type Line = Record<string, unknown> & { msg: string }

/** The environment of a proxy: backends of tests are on loopback addresses. */
export const onLoopback = () => ({ ...process.env, ISTHMUS_ALLOW_LOCAL_ENDPOINTS: 'true' })

export const MAIN = fileURLToPath(new URL('../../src/main.ts', import.meta.url))

export function folder(scope: Scope): string {
  const path = mkdtempSync(join(tmpdir(), 'isthmus-pod-'))
  scope.teardown(() => rmSync(path, { recursive: true, force: true }))
  return path
}

/** A port that nobody has just now. */
export async function freePort(): Promise<number> {
  const probe = createServer().listen(0, '127.0.0.1')
  await once(probe, 'listening')
  const { port } = probe.address() as AddressInfo
  probe.close()
  await once(probe, 'close')
  return port
}

/** ADS over mutual TLS, with whatever the test puts in its cache. */
export class TestDiscovery {
  readonly cache = new SnapshotCache({ identifier: 'test-discovery' })
  readonly nodes: NodeInfo[] = []
  readonly #ca: Ca
  readonly #host: string
  #server: XdsServer | undefined
  #port: number

  constructor(ca: Ca, host = '127.0.0.1', port = 0) {
    this.#ca = ca
    this.#host = host
    this.#port = port
  }

  get address(): string {
    return `${this.#host}:${this.#port}`
  }

  /** On the same port again after `stop`. */
  async start(serviceAccount = 'isthmus-discovery'): Promise<void> {
    const issued = await this.#ca.issue({ namespace: 'isthmus-system', serviceAccount })
    const credential = parseCredential(issued.certificatePem, issued.privateKeyPem, 'test')
    if (!credential.ok) throw new Error(credential.error.message)
    const bundles = new TrustBundles([this.#ca.bundle])
    this.#server = new XdsServer({
      authorize: (_peer, node) => {
        this.nodes.push(node)
        return ok(this.cache)
      },
      ready: () => true,
      logger: silentLogger,
    })
    const at = await this.#server.listen({
      host: this.#host,
      port: this.#port,
      tls: serverTlsOptions(credential.value, bundles),
    })
    this.#port = 'port' in at ? at.port : 0
  }

  put(typeUrl: string, ...resources: XdsResource[]): void {
    this.cache.setType(typeUrl, new Map(resources.map((one) => [one.name, one])))
  }

  /** Who is connected now. */
  clients(): readonly ClientStatus[] {
    return this.#server?.clients() ?? []
  }

  async stop(): Promise<void> {
    await this.#server?.close(0)
    this.#server = undefined
  }
}

/** One trust domain with a discovery server and a folder for everything. */
export class TestCluster {
  readonly ca: Ca
  readonly folder: string
  readonly discovery: TestDiscovery

  private constructor(ca: Ca, path: string) {
    this.ca = ca
    this.folder = path
    this.discovery = new TestDiscovery(ca)
  }

  static async create(scope: Scope): Promise<TestCluster> {
    const ca = await createCa({ trustDomain: 'cluster-1.example' })
    const cluster = new TestCluster(ca, folder(scope))
    scope.teardown(() => cluster.discovery.stop())
    return cluster
  }

  /** Writes a credential into the folder, as a mounted Secret would have it. */
  async certify(name: string): Promise<string> {
    const directory = join(this.folder, name)
    const issued = await this.ca.issue({ namespace: 'bookinfo', serviceAccount: name })
    await writeCredential(directory, { ...issued, bundlePem: this.ca.bundlePem })
    return directory
  }
}

/** A launcher with its children. */
export class Pod extends LoggedProcess<Line> {
  constructor(scope: Scope, args: readonly string[]) {
    super(
      scope,
      spawn(process.execPath, [MAIN, ...args], { stdio: ['ignore', 'pipe', 'inherit'], env: onLoopback() }),
    )
  }

  /** `ready` of a process: `supervisor`, `gateway`, `sidecar`; of its n-th life. */
  ready(name: string, nth = 1): Promise<Line> {
    return this.line((line) => line.msg === 'ready' && line['name'] === name, nth)
  }

  async pid(child: 'supervisor' | 'worker', generation = 1): Promise<number> {
    const line = await this.line(
      (one) => one.msg === 'started' && one['child'] === child && one['generation'] === generation,
    )
    return line['pid'] as number
  }

  /** The address of the supervisor's `admin`, `health` or `metrics`; of its n-th life. */
  async url(port: 'admin' | 'health' | 'metrics', nth = 1): Promise<string> {
    return `http://${(await this.ready('supervisor', nth))[port]}`
  }
}

export async function getJson(url: string): Promise<{ status: number; body: never }> {
  const response = await fetch(url)
  return { status: response.status, body: (await response.json()) as never }
}

/** Asks until the answer is as wanted: for facts that no event tells. Fails by the test's own time limit. */
export async function eventually<T>(ask: () => Promise<T>, wanted: (answer: T) => boolean): Promise<T> {
  for (;;) {
    const answer = await ask()
    if (wanted(answer)) return answer
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}
