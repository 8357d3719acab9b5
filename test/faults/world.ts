// A gateway pod on a machine of its own, with discovery, services, wires that can fail, callers, and intruders.
import { spawn } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type Ca, createCa } from '../../src/identity/ca.ts'
import { saveCa, writeCredential } from '../../src/identity/ca-folder.ts'
import { TYPE } from '../../src/xds/types.ts'
import { LoggedProcess } from '../process/logged-process.ts'
import { type Line, MAIN } from '../process/pod.ts'
import { endpoints, trustSecret, upstream } from '../proxy/support.ts'
import { becomes } from './becomes.ts'
import { type Intruder, Load, type Way } from './load.ts'
import { BLACK_HOLE, Network, ours, SmallDisk, theirs } from './network.ts'
import { Backend, Discovery, Relay } from './parts.ts'
import { CALLERS, DETAILS, HIDDEN, listener, PRODUCTPAGE, RATINGS } from './resources.ts'

export type Runtime = 'node' | 'bun'
const PORT = 15443
const WORKERS = 2
const FAKE_TIME = fileURLToPath(new URL('fake-time.mjs', import.meta.url))
const HOUR_MS = 3_600_000
/** Certificates are this old, so that a clock that is set back finds them valid. */
const LONG_AGO_MS = Date.now() - 48 * HOUR_MS

interface Parts {
  readonly runtime: Runtime
  readonly folder: string
  readonly network: Network
  readonly disk: SmallDisk
  readonly ca: Ca
  readonly discovery: Discovery
  readonly services: { readonly a: Backend; readonly b: Backend; readonly ratings: Backend }
  readonly wires: { readonly clients: Relay; readonly services: Relay }
  readonly load: Load
  readonly violations: string[]
}

export class World {
  readonly runtime: Runtime
  readonly network: Network
  readonly disk: SmallDisk
  readonly ca: Ca
  readonly discovery: Discovery
  readonly services: Parts['services']
  readonly wires: Parts['wires']
  readonly load: Load
  /** What must never happen, and did. */
  readonly violations: string[]
  pod!: LoggedProcess<Line>
  readonly #folder: string

  private constructor(parts: Parts) {
    this.runtime = parts.runtime
    this.#folder = parts.folder
    this.network = parts.network
    this.disk = parts.disk
    this.ca = parts.ca
    this.discovery = parts.discovery
    this.services = parts.services
    this.wires = parts.wires
    this.load = parts.load
    this.violations = parts.violations
  }

  /** Everything up and serving, and the load on it. */
  static async create(runtime: Runtime, random: () => number): Promise<World> {
    const folder = mkdtempSync(join(tmpdir(), 'isthmus-faults-'))
    for (const name of ['run', 'ca', 'gateway']) mkdirSync(join(folder, name))
    const [network, ca] = await Promise.all([
      Network.create(),
      createCa({ trustDomain: 'cluster-1.example', nowMs: LONG_AGO_MS }),
    ])
    await saveCa(ca, join(folder, 'ca'))
    const violations: string[] = []
    const onViolation = (what: string) => violations.push(what)
    const service = (forbidden: boolean) => Backend.start(ours('services'), onViolation, forbidden)
    const [a, b, ratings] = await Promise.all([service(false), service(false), service(true)])
    const wires = {
      clients: await Relay.start({
        host: '127.0.0.1',
        port: 0,
        target: { host: theirs('clients'), port: PORT },
      }),
      services: await Relay.start({
        host: ours('services'),
        port: 0,
        target: { host: ours('services'), port: a.port },
      }),
    }
    const discovery = new Discovery({ host: ours('discovery'), caFolder: join(folder, 'ca') })
    const world = new World({
      runtime,
      folder,
      network,
      disk: new SmallDisk(join(folder, 'run'), 4),
      ca,
      discovery,
      services: { a, b, ratings },
      wires,
      load: await makeLoad(ca, wires.clients.port, random),
      violations,
    })
    await world.#configure()
    await discovery.start()
    await world.rotateCertificate()
    await world.startPod()
    return world
  }

  /** As kubelet does with a container that has ended. Resolves when it serves. */
  async startPod(): Promise<void> {
    const [program = '', ...args] = [
      ...this.network.prefix,
      process.execPath,
      MAIN,
      'gateway',
      ...this.#flags(),
    ]
    const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'inherit'], env: this.#environment() })
    this.pod = new LoggedProcess({ teardown: () => {} }, child)
    await this.pod.line(({ msg, name }) => msg === 'ready' && name === 'gateway', WORKERS)
  }

  async supervisor(): Promise<number> {
    return (await this.#pids('supervisor'))[0] ?? 0
  }

  /** One process per slot: the newest. */
  workers(): Promise<number[]> {
    return this.#pids('worker')
  }

  async #pids(child: 'supervisor' | 'worker'): Promise<number[]> {
    const isStart = (line: Line) => line.msg === 'started' && line['child'] === child
    await this.pod.line(isStart, child === 'worker' ? WORKERS : 1)
    const started = this.pod.lines.filter(isStart)
    return [...new Map(started.map((line) => [line['slot'], line['pid'] as number])).values()]
  }

  /** Waits for so many lines of the pod's log after the first `from`. Throws when there are none within a minute. */
  async said(from: number, matches: RegExp, count = 1): Promise<void> {
    await becomes(`the log says ${matches}`, 60_000, () => {
      const later = this.pod.lines.slice(from).filter((line) => matches.test(JSON.stringify(line)))
      return later.length >= count
    })
  }

  /** How connections of good callers ended, by the log after its first `from` lines. */
  endings(from: number): string {
    const count = new Map<string, number>()
    for (const line of this.pod.lines.slice(from)) {
      if (line.msg !== 'access' || ![PRODUCTPAGE, DETAILS].includes(String(line['sni']))) continue
      const how = `${line['flag']} ${line['reason']}`
      count.set(how, (count.get(how) ?? 0) + 1)
    }
    return [...count].map(([how, times]) => `${times}× ${how}`).join('; ')
  }

  /** A new certificate of the gateway, in place of the one that it has. */
  async rotateCertificate(): Promise<void> {
    const issued = await this.ca.issue({ namespace: 'bookinfo', serviceAccount: 'gateway' })
    await writeCredential(join(this.#folder, 'gateway'), { ...issued, bundlePem: this.ca.bundlePem })
  }

  writeCertificateFile(name: 'tls.crt' | 'tls.key' | 'ca.crt', content: string): void {
    writeFileSync(join(this.#folder, 'gateway', name), content)
  }

  /** The wall clock of the pod's processes, from now on. */
  setClock(offsetMs: number): void {
    writeFileSync(join(this.#folder, 'clock'), String(offsetMs))
  }

  endpointsOf(service: string, where: 'good' | 'refused' | 'blackhole' | 'only b'): Promise<void> {
    const { a, b } = this.services
    const host = ours('services')
    const specs = {
      good: [a.port, b.port].map((port) => ({ host, port })),
      'only b': [{ host, port: b.port }],
      refused: [
        { host, port: 1 },
        { host, port: 2 },
        { host, port: b.port },
      ],
      blackhole: [
        { host: BLACK_HOLE, port: 9080 },
        { host, port: b.port },
      ],
    }[where]
    return this.discovery.put(TYPE.endpoints, endpoints(service, specs))
  }

  /** Who may call: the policy in force, or nobody. */
  policy(callers: readonly string[]): Promise<void> {
    return this.discovery.put(TYPE.listener, listener(theirs('clients'), PORT, callers))
  }

  get target(): { readonly host: string; readonly port: number } {
    return { host: theirs('clients'), port: PORT }
  }

  get runFiles(): string[] {
    return readdirSync(join(this.#folder, 'run'))
  }

  async close(): Promise<void> {
    await this.load.stop()
    for (const pid of [await this.supervisor(), ...(await this.workers())]) signalIfThere(pid, 'SIGCONT')
    this.pod.process.kill('SIGKILL')
    await this.pod.exit
    const { a, b, ratings } = this.services
    const helpers = [a, b, ratings, this.wires.clients, this.wires.services, this.discovery]
    await Promise.all(helpers.map((helper) => helper.kill()))
    this.network.close()
    this.disk.close()
    rmSync(this.#folder, { recursive: true, force: true, maxRetries: 3 })
  }

  async #configure(): Promise<void> {
    const host = ours('services')
    const { a, ratings } = this.services
    await this.policy(CALLERS)
    const names = [PRODUCTPAGE, DETAILS, RATINGS]
    await this.discovery.put(TYPE.cluster, ...names.map((name) => upstream(name)))
    await this.discovery.put(
      TYPE.endpoints,
      endpoints(DETAILS, [{ host, port: this.wires.services.port }]),
      endpoints(RATINGS, [{ host, port: ratings.port }]),
    )
    await this.endpointsOf(PRODUCTPAGE, 'good')
    await this.discovery.put(TYPE.secret, trustSecret([this.ca]))
    void a
  }

  #flags(): string[] {
    const flags = {
      cluster: 'cluster-1',
      name: 'gateway',
      namespace: 'bookinfo',
      discovery: this.discovery.address,
      certs: join(this.#folder, 'gateway'),
      'run-dir': join(this.#folder, 'run'),
      bind: `${theirs('clients')}:${PORT}`,
      admin: '127.0.0.1:0',
      health: '127.0.0.1:0',
      metrics: '127.0.0.1:0',
      workers: WORKERS,
      runtime: this.runtime,
    }
    return Object.entries(flags).map(([name, value]) => `--${name}=${value}`)
  }

  #environment(): NodeJS.ProcessEnv {
    return {
      ...process.env,
      NODE_OPTIONS: `--import=${FAKE_TIME}`,
      BUN_OPTIONS: `--preload=${FAKE_TIME}`,
      ISTHMUS_TEST_CLOCK_FILE: join(this.#folder, 'clock'),
    }
  }
}

/** Open descriptors of processes, and their resident memory in KiB, together. */
export function footprint(...pids: number[]): { readonly descriptors: number; readonly memoryKb: number } {
  let [descriptors, memoryKb] = [0, 0]
  for (const pid of pids) {
    const status = readFileSync(`/proc/${pid}/status`, 'utf8')
    descriptors += readdirSync(`/proc/${pid}/fd`).length
    memoryKb += Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1] ?? 0)
  }
  return { descriptors, memoryKb }
}

export function signalIfThere(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error
  }
}

/** Good callers over three ways, and everybody who must not be heard. */
async function makeLoad(ca: Ca, relayPort: number, random: () => number): Promise<Load> {
  const nowMs = LONG_AGO_MS
  const lifetimeMs = 20 * 24 * HOUR_MS
  const issue = (from: Ca, namespace: string) =>
    from.issue({ namespace, serviceAccount: 'sleep', nowMs, lifetimeMs })
  const twin = await createCa({ trustDomain: ca.trustDomain, nowMs })
  const [good, denied, forged] = await Promise.all([
    issue(ca, 'bookinfo'),
    issue(ca, 'other'),
    issue(twin, 'bookinfo'),
  ])
  const target = { host: theirs('clients'), port: PORT }
  const pem = ({ certificatePem, privateKeyPem }: typeof good) => ({
    cert: certificatePem,
    key: privateKeyPem,
  })
  const ways: Way[] = [
    { name: 'productpage', ...target, serverName: PRODUCTPAGE },
    { name: 'productpage over a wire', host: '127.0.0.1', port: relayPort, serverName: PRODUCTPAGE },
    { name: 'details behind a wire', ...target, serverName: DETAILS },
  ]
  const intruders: Intruder[] = [
    { name: 'no certificate', ...target, tls: { servername: PRODUCTPAGE } },
    {
      name: 'a certificate of a CA with our name',
      ...target,
      tls: { servername: PRODUCTPAGE, ...pem(forged) },
    },
    { name: 'a denied caller', ...target, tls: { servername: PRODUCTPAGE, ...pem(denied) } },
    {
      name: 'a good caller at a service that is not his',
      ...target,
      tls: { servername: RATINGS, ...pem(good) },
    },
    { name: 'a good caller at what is not exposed', ...target, tls: { servername: HIDDEN, ...pem(good) } },
    { name: 'plain HTTP', ...target },
  ]
  return new Load({ credentials: { ...pem(good), ca: ca.bundlePem }, ways, intruders, random })
}
