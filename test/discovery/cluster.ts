// One cluster's discovery in this process: a folder of YAML, a CA, real TLS, the controllers; and clients of it.
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseAllDocuments } from 'yaml'
import { DiscoveryProcess } from '../../src/cli/discovery-process.ts'
import type { DiscoveryOptions } from '../../src/discovery/discovery.ts'
import { type Ca, createCa } from '../../src/identity/ca.ts'
import { writeCredential } from '../../src/identity/ca-folder.ts'
import { CredentialFiles } from '../../src/identity/credential-files.ts'
import { serverIdentityError } from '../../src/identity/tls.ts'
import { TrustBundles } from '../../src/identity/trust-bundle.ts'
import { contentHash } from '../../src/lib/canonical.ts'
import type { Clock } from '../../src/lib/clock.ts'
import { type Logger, silentLogger } from '../../src/lib/log.ts'
import { problem } from '../../src/lib/result.ts'
import { DirectoryStore } from '../../src/objects/directory-store.ts'
import type { Manifest } from '../../src/objects/types.ts'
import { type ClientState, XdsClient } from '../../src/xds/client.ts'
import { type NodeInfo, TYPE, type XdsResource } from '../../src/xds/types.ts'

export interface ClusterOptions {
  readonly yaml?: string
  readonly ca?: Ca
  /** Default: a free port of its own; give one to come back on the same address. */
  readonly port?: number
  /** A folder to start from again. */
  readonly folder?: string
  /** False: the credential is written later, with `issue`. */
  readonly credential?: boolean
  /** Mints SVIDs for its clients. */
  readonly signing?: boolean | Ca
  readonly svidLifetimeMs?: number
  readonly clock?: Clock
  readonly logger?: Logger
  readonly hostAddresses?: DiscoveryOptions['hostAddresses']
}

export class TestCluster {
  readonly name: string
  readonly ca: Ca
  readonly folder: string
  readonly store: DirectoryStore
  readonly process: DiscoveryProcess
  readonly #credentials: CredentialFiles
  readonly #clients = new Set<Seen>()

  private constructor(name: string, ca: Ca, folder: string, options: ClusterOptions) {
    this.name = name
    this.ca = ca
    this.folder = folder
    this.store = new DirectoryStore({
      directories: [join(folder, 'yaml')],
      substitutions: {},
      logger: silentLogger,
    })
    this.#credentials = new CredentialFiles({ directory: join(folder, 'certs'), logger: silentLogger })
    const signing = options.signing === true ? ca : options.signing || undefined
    this.process = new DiscoveryProcess({
      cluster: name,
      store: this.store,
      credentials: this.#credentials,
      ads: { host: '127.0.0.1', port: options.port ?? 0 },
      adsPlain: { host: '127.0.0.1', port: 0 },
      logger: options.logger ?? silentLogger,
      ...(options.clock && { clock: options.clock }),
      svidLifetimeMs: options.svidLifetimeMs,
      hostAddresses: options.hostAddresses,
      ...(signing && { signingCa: { current: () => signing, problems: () => [] } }),
      pods: { cluster: name, image: 'isthmus:test', discovery: '' },
    })
  }

  static async start(name: string, options: ClusterOptions = {}): Promise<TestCluster> {
    const ca = options.ca ?? (await createCa({ trustDomain: `${name}.local` }))
    const folder = options.folder ?? (await mkdtemp(join(tmpdir(), `isthmus-${name}-`)))
    const cluster = new TestCluster(name, ca, folder, options)
    if (options.credential !== false) await cluster.issue()
    await cluster.#credentials.start()
    await cluster.store.start()
    if (options.yaml !== undefined) await cluster.apply(options.yaml)
    await cluster.process.start()
    return cluster
  }

  get discovery() {
    return this.process.discovery
  }

  /** A new certificate for discovery. */
  async issue(): Promise<void> {
    const issued = await this.ca.issue({ namespace: 'isthmus-system', serviceAccount: 'isthmus-discovery' })
    for (const each of ['certs', 'yaml']) await mkdir(join(this.folder, each), { recursive: true })
    await writeCredential(join(this.folder, 'certs'), { ...issued, bundlePem: this.ca.bundlePem })
  }

  get port(): number {
    const at = this.discovery.addresses.ads
    if (at === undefined || 'path' in at) throw new Error('no ADS over TLS')
    return at.port
  }

  async apply(yaml: string): Promise<void> {
    for (const document of parseAllDocuments(yaml)) {
      const result = await this.store.apply(document.toJS() as Manifest)
      if (!result.ok) throw new Error(JSON.stringify(result.error))
    }
  }

  /** Resolves once `holds` is true; looked at after every change. */
  async until(what: string, holds: () => boolean, timeoutMs = 5_000): Promise<void> {
    await waitFor(
      what,
      holds,
      (check) => {
        const ends = [this.discovery.onChange(check), this.store.watch(check)]
        return () => {
          for (const end of ends) end()
        }
      },
      timeoutMs,
    )
  }

  /** `until` for what no event tells: looked at every 5 ms. */
  async poll(what: string, holds: () => boolean, timeoutMs = 5_000): Promise<void> {
    const listen = (check: () => void) => {
      const timer = setInterval(check, 5)
      return () => clearInterval(timer)
    }
    await waitFor(what, holds, listen, timeoutMs)
  }

  /** A client over mutual TLS, with a certificate of this cluster's CA unless told otherwise. */
  async client(
    node: Partial<NodeInfo>,
    identity: { namespace: string; serviceAccount: string; ca?: Ca },
  ): Promise<Seen> {
    const issued = await (identity.ca ?? this.ca).issue(identity)
    const bundles = new TrustBundles([this.ca.bundle])
    const seen: Seen = new Seen(node, {
      address: `127.0.0.1:${this.port}`,
      tls: () => ({
        ...issued,
        caPem: this.ca.bundlePem,
        verifyPeer: (der) => {
          seen.serverFingerprint = contentHash(der)
          return serverIdentityError(der, bundles, Date.now())
        },
      }),
    })
    this.#clients.add(seen)
    return seen
  }

  /** Of ADS in clear. */
  get plainPort(): number {
    const at = this.discovery.addresses.adsPlain
    if (at === undefined || 'path' in at) throw new Error('no ADS in clear')
    return at.port
  }

  plainClient(node: Partial<NodeInfo>): Seen {
    const seen = new Seen(node, { address: `127.0.0.1:${this.plainPort}` })
    this.#clients.add(seen)
    return seen
  }

  /** Everything ends; the folder stays when `keep`. */
  async stop(keep = false): Promise<void> {
    for (const client of this.#clients) client.stop()
    await this.process.stop()
    this.#credentials.stop()
    await this.store.stop()
    if (!keep) await rm(this.folder, { recursive: true, force: true })
  }
}

/** What one client was told. */
export class Seen {
  readonly #client: XdsClient
  readonly #resources = new Map<string, Map<string, XdsResource>>()
  readonly #checks = new Set<() => void>()
  readonly #refused = new Map<string, string>()
  #state: ClientState | undefined
  /** Responses received. */
  updates = 0
  identifier = ''
  /** Of the server's certificate at the last connection. */
  serverFingerprint = ''

  constructor(node: Partial<NodeInfo>, target: ConstructorParameters<typeof XdsClient>[0]['target']) {
    this.#client = new XdsClient({
      target,
      node: () => ({
        id: '',
        cluster: '',
        metadata: {},
        locality: { region: '', zone: '' },
        userAgentName: 'isthmus',
        ...node,
      }),
      onUpdate: (typeUrl, { upserted, removed, identifier }) => {
        const known = this.#resources.get(typeUrl) ?? new Map<string, XdsResource>()
        this.#resources.set(typeUrl, known)
        for (const name of removed) known.delete(name)
        for (const resource of upserted) known.set(resource.name, resource)
        this.identifier = identifier
        this.updates++
        this.#check()
        const refused = this.#refused.get(typeUrl)
        return refused === undefined ? [] : [problem(typeUrl, '', refused)]
      },
      onState: (state) => {
        this.#state = state
        this.#check()
      },
    })
  }

  /** Refuses whatever comes of the type; without a message it is taken again. */
  refuse(typeUrl: string, message?: string): void {
    if (message === undefined) this.#refused.delete(typeUrl)
    else this.#refused.set(typeUrl, message)
  }

  subscribe(typeUrl: string, names: readonly string[] | '*' = '*'): this {
    this.#client.subscribe(typeUrl, names)
    return this
  }

  /** Everything that a proxy asks for at first. */
  start(...types: readonly string[]): this {
    for (const type of types.length > 0 ? types : [TYPE.cluster, TYPE.listener]) this.subscribe(type)
    this.#client.start()
    return this
  }

  stop(): void {
    this.#client.stop()
  }

  names(typeUrl: string): string[] {
    return [...(this.#resources.get(typeUrl)?.keys() ?? [])].sort()
  }

  /** Whether there was a response of the type, be it that there is nothing. */
  answered(typeUrl: string): boolean {
    return this.#resources.has(typeUrl)
  }

  get(typeUrl: string, name: string): XdsResource | undefined {
    return this.#resources.get(typeUrl)?.get(name)
  }

  /** Why the stream ended last. */
  get lastError(): string {
    return this.#state?.lastError ?? ''
  }

  async until(what: string, holds: (seen: this) => boolean, timeoutMs = 5_000): Promise<void> {
    await waitFor(
      what,
      () => holds(this),
      (check) => {
        this.#checks.add(check)
        return () => this.#checks.delete(check)
      },
      timeoutMs,
    )
  }

  #check(): void {
    for (const check of [...this.#checks]) check()
  }
}

async function waitFor(
  what: string,
  holds: () => boolean,
  listen: (check: () => void) => () => void,
  timeoutMs: number,
): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  const check = (): void => {
    if (holds()) resolve()
  }
  const end = listen(check)
  const timer = setTimeout(() => reject(new Error(`did not happen in ${timeoutMs} ms: ${what}`)), timeoutMs)
  check()
  try {
    await promise
  } finally {
    clearTimeout(timer)
    end()
  }
}
