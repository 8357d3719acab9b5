// The demo's world: a temporary folder, a CA for each cluster, what each needs to know of the others, and one machine
// process per cluster, inside namespaces of its own where asked for.
import { EventEmitter } from 'node:events'
import { chmodSync, cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type Ca, createCa } from '../../identity/ca.ts'
import { saveCa, writeCredential } from '../../identity/ca-folder.ts'
import { DISCOVERY_ACCOUNT, DISCOVERY_NAMESPACE } from '../../identity/spiffe-id.ts'
import { planAddresses } from './address-plan.ts'
import { ISTHMUS } from './container-command.ts'
import { claimLoopbackRange, type LoopbackRange } from './free-address.ts'
import { KeptProcess } from './kept-process.ts'
import type { MachineConfig, MachineLine } from './machine-config.ts'
import { createBridge, createNamespace, type Namespace } from './netns.ts'

export const CLUSTERS = ['cluster-1', 'cluster-2', 'cluster-3'] as const
export type ClusterName = (typeof CLUSTERS)[number]

/** What `${ORG}` and `${TEN}` of the story's YAML become. */
const SUBSTITUTIONS = { ORG: 'acme', TEN: 'shop' } as const
const EXAMPLES = fileURLToPath(new URL('../../../deploy/examples/bookinfo', import.meta.url))
const CERTIFICATE_LIFETIME_MS = 30 * 24 * 3_600_000

export type MachineState = Extract<MachineLine, { type: 'state' }>

export interface DemoCluster {
  readonly name: ClusterName
  readonly config: MachineConfig
  readonly ca: Ca
  readonly namespace: Namespace | undefined
  /** What its machine said last. */
  state: MachineState
}

const NOTHING: MachineState = {
  type: 'state',
  network: '',
  pods: [],
  discovery: { pids: [] },
  sidecar: undefined,
}

/** Events: `change` (some machine's state), `notice` (text: a restart, a port that was taken). */
export class World extends EventEmitter<{ change: []; notice: [string] }> {
  readonly folder: string
  readonly netns: boolean
  readonly #clusters = new Map<ClusterName, DemoCluster>()
  readonly #machines: KeptProcess[] = []
  #range: LoopbackRange | undefined

  readonly #loopback: string | undefined

  /** `loopback`: the range to use, `127.X`; undefined: one that is free. */
  constructor(netns: boolean, loopback: string | undefined) {
    super()
    this.netns = netns
    this.#loopback = loopback
    this.folder = mkdtempSync(join(tmpdir(), 'isthmus-'))
  }

  cluster(name: ClusterName): DemoCluster {
    const cluster = this.#clusters.get(name)
    if (cluster === undefined) throw new Error(`${name} was not started`)
    return cluster
  }

  get clusters(): DemoCluster[] {
    return [...this.#clusters.values()]
  }

  async start(): Promise<void> {
    this.#range = await claimLoopbackRange(this.#loopback)
    if (this.netns) createBridge()
    this.#writeTools()
    for (const [i, name] of CLUSTERS.entries())
      this.#clusters.set(name, await this.#prepare(name, i + 1, this.#range.prefix))
    await this.#introduce()
    for (const cluster of this.#clusters.values()) this.#startMachine(cluster)
  }

  /** Ends every process (each follows the end of its parent) and removes the folder. */
  async stop(): Promise<void> {
    await Promise.all(this.#machines.map((machine) => machine.stop(2_000)))
    this.#range?.release()
    rmSync(this.folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 })
  }

  async #prepare(name: ClusterName, index: number, loopback: string): Promise<DemoCluster> {
    const folder = join(this.folder, name)
    const yaml = join(folder, 'yaml')
    cpSync(join(EXAMPLES, name), yaml, { recursive: true })
    for (const each of ['logs', 'run', 'ca']) mkdirSync(join(folder, each))
    const ca = await createCa({ trustDomain: `${name}.local` })
    await saveCa(ca, join(folder, 'ca'))
    const certs = (of: string) => join(folder, 'identities', of)
    await issue(ca, DISCOVERY_NAMESPACE, DISCOVERY_ACCOUNT, certs('discovery'))
    await issue(ca, 'client', 'sleep', certs('sleep'))
    const namespace = this.netns ? await createNamespace(index, folder) : undefined
    const addresses = await planAddresses({
      index,
      loopback,
      netns: this.netns,
      sidecar: name !== 'cluster-3',
      certs,
    })
    for (const text of addresses.notices) this.emit('notice', `${name}: ${text}`)
    const config: MachineConfig = {
      cluster: name,
      trustDomain: ca.trustDomain,
      zone: `zone-${index}`,
      yaml,
      ca: join(folder, 'ca'),
      logs: join(folder, 'logs'),
      run: join(folder, 'run'),
      substitutions: SUBSTITUTIONS,
      ...addresses.plan,
    }
    writeFileSync(join(folder, 'machine.json'), `${JSON.stringify(config, null, 2)}\n`)
    return { name, config, ca, namespace, state: NOTHING }
  }

  /** Peers are Secrets; a sleep's `roots.pem` lets curl and openssl verify every cluster's gateway. */
  async #introduce(): Promise<void> {
    const roots = this.clusters.map(({ ca }) => ca.bundlePem).join('')
    for (const { name, config } of this.clusters) {
      writeFileSync(join(this.folder, name, 'identities', 'sleep', 'roots.pem'), roots)
      for (const peer of this.clusters) {
        if (peer.name === name) continue
        writeFileSync(join(config.yaml, `peer-${peer.name}.yaml`), peerSecret(peer))
      }
    }
  }

  /** `./isthmus` and, with namespaces, `./in cluster-2 curl …`; and the story's files, next to them. */
  #writeTools(): void {
    const script = (name: string, text: string) => {
      writeFileSync(join(this.folder, name), text)
      chmodSync(join(this.folder, name), 0o755)
    }
    const environment = Object.entries(SUBSTITUTIONS).map(
      ([name, value]) => `${name}="\${${name}:-${value}}"`,
    )
    script(
      'isthmus',
      `#!/bin/sh\n# Your objects say \${ORG} and \${TEN}; this is what they are here.\nexport ${environment.join(' ')}\nexec ${ISTHMUS.map(quote).join(' ')} "$@"\n`,
    )
    if (this.netns) script('in', ENTER)
    for (const part of ['story', 'more'])
      cpSync(join(EXAMPLES, part), join(this.folder, part), { recursive: true })
    // The way back from productpage-scaled-to-zero.yaml.
    cpSync(join(EXAMPLES, 'cluster-1', 'productpage.yaml'), join(this.folder, 'more', 'productpage.yaml'))
  }

  #startMachine(cluster: DemoCluster): void {
    const folder = join(this.folder, cluster.name)
    if (cluster.namespace !== undefined) writeFileSync(join(folder, 'pid'), `${cluster.namespace.pid}\n`)
    const argv = [
      ...(cluster.namespace?.prefix ?? []),
      ...ISTHMUS,
      'demo',
      '--machine',
      join(folder, 'machine.json'),
    ]
    const machine = new KeptProcess(
      {
        name: `${cluster.name}'s machine`,
        argv: argv as [string, ...string[]],
        env: {},
        logFile: join(cluster.config.logs, 'machine.log'),
        onLine: (line) => this.#heard(cluster, line),
      },
      {
        onStart: () => undefined,
        onRestart: (how) =>
          this.emit(
            'notice',
            `${cluster.name}'s machine ended (${how}) and everything on it; it is started again`,
          ),
      },
    )
    this.#machines.push(machine)
    machine.start()
  }

  #heard(cluster: DemoCluster, text: string): void {
    const line = JSON.parse(text) as MachineLine
    if (line.type === 'notice') {
      this.emit('notice', line.text)
      return
    }
    cluster.state = line
    this.emit('change')
  }
}

async function issue(ca: Ca, namespace: string, serviceAccount: string, directory: string): Promise<void> {
  mkdirSync(directory, { recursive: true })
  const issued = await ca.issue({ namespace, serviceAccount, lifetimeMs: CERTIFICATE_LIFETIME_MS })
  await writeCredential(directory, { ...issued, bundlePem: ca.bundlePem })
}

function peerSecret({ name, ca, config }: DemoCluster): string {
  const indented = ca.bundlePem.trim().replace(/^/gm, '    ')
  return `# How to reach ${name}'s discovery server, and which CA's certificates are its own.
apiVersion: v1
kind: Secret
metadata:
  name: peer-${name}
  namespace: isthmus-system
  labels:
    isthmus.io/peer: "true"
stringData:
  cluster: ${name}
  trustDomain: ${ca.trustDomain}
  adsAddress: ${config.discovery.ads}
  bundle: |
${indented}
`
}

/** `./in cluster-2 curl …` from any shell: joins the user namespace first, unless that is where we are. */
const ENTER = `#!/bin/sh
# usage: ./in <cluster> [command …]   runs the command (a shell by default) inside that cluster
here=$(cd "$(dirname "$0")" && pwd)
pid=$(cat "$here/$1/pid") || exit 64
shift
user=
[ "$(readlink /proc/self/ns/user)" = "$(readlink "/proc/$pid/ns/user")" ] || user='--user --preserve-credentials'
exec nsenter --target "$pid" $user --net --mount -- sh -c 'cd "$1" && shift && exec "$@"' sh "$here" "\${@:-sh}"
`

const quote = (text: string) => `'${text.replaceAll("'", "'\\''")}'`
