import { mkdirSync, readFileSync } from 'node:fs'
import { Socket } from 'node:net'
import { join } from 'node:path'
import { loadCa, writeCredential } from '../../identity/ca-folder.ts'
import { createLogger } from '../../lib/log.ts'
import { formatProblem } from '../../lib/result.ts'
import { DirectoryStore } from '../../objects/directory-store.ts'
import { ISTHMUS } from './container-command.ts'
import { readProcessTree } from './descendants.ts'
import { KeptProcess } from './kept-process.ts'
import { Machine } from './machine.ts'
import { type MachineConfig, type MachineLine, ON_LOOPBACK } from './machine-config.ts'

/** Pids below a launcher change without anybody telling us: they are looked up this often, milliseconds. */
const PIDS_MS = 1_000
const CERTIFICATE_LIFETIME_MS = 30 * 24 * 3_600_000

/** The process that plays one cluster's machine: `isthmus demo --machine FILE`. It takes its children along when it ends. */
export async function runMachine(configFile: string): Promise<void> {
  const config = JSON.parse(readFileSync(configFile, 'utf8')) as MachineConfig
  const { cluster } = config
  const logger = createLogger({ name: 'machine', cluster })
  const notice = (text: string) => print({ type: 'notice', text })
  const ca = await loadCa(config.ca)
  if (!ca.ok) throw new Error(formatProblem(ca.error))
  const store = new DirectoryStore({
    directories: [config.yaml],
    substitutions: config.substitutions,
    logger,
  })
  await store.start()

  const kept = new Map<'discovery' | 'sidecar', KeptProcess>()
  const report = stateReporter(() => {
    const processTree = readProcessTree()
    const own = store.list('Cluster').find(({ metadata }) => metadata.name === cluster)
    return {
      type: 'state',
      network: own?.spec.network ?? '',
      pods: machine.report(processTree),
      discovery: { pids: processTree(kept.get('discovery')?.pid) },
      sidecar: config.sidecar && { pids: processTree(kept.get('sidecar')?.pid) },
    }
  })
  const machine = new Machine({
    config,
    store,
    logger,
    notice,
    changed: report,
    async issueCertificate(namespace, serviceAccount, directory) {
      mkdirSync(directory, { recursive: true })
      const issued = await ca.value.issue({ namespace, serviceAccount, lifetimeMs: CERTIFICATE_LIFETIME_MS })
      await writeCredential(directory, { ...issued, bundlePem: ca.value.bundlePem })
    },
  })
  for (const [name, args] of staticPods(config)) {
    const process = new KeptProcess(
      {
        name,
        argv: [...ISTHMUS, ...args],
        env: { ...config.substitutions, ...ON_LOOPBACK },
        logFile: join(config.logs, `${name}.log`),
      },
      {
        onStart: report,
        onRestart: (how, delayMs) =>
          notice(`${cluster}'s ${name} ended (${how}); started again in ${delayMs} ms`),
      },
    )
    kept.set(name, process)
    process.start()
  }
  machine.start()
  setInterval(report, PIDS_MS)

  // When the demo goes, nobody is left for whom connections would be drained: every child follows its lifeline.
  process.on('SIGTERM', () => process.exit(0))
}

/** Where the demo listens: see `ProcessSpec.onLine`. */
const REPORT_FD = 4
let reports: Socket | undefined

function print(line: MachineLine): void {
  reports ??= new Socket({ fd: REPORT_FD, readable: false, writable: true }).on('error', () =>
    process.exit(0),
  )
  reports.write(`${JSON.stringify(line)}\n`)
}

/** Prints the state when it differs from what was printed last. */
function stateReporter(state: () => MachineLine): () => void {
  let last = ''
  return () => {
    const line = state()
    const text = JSON.stringify(line)
    if (text !== last) print(line)
    last = text
  }
}

/** What would be a Deployment in isthmus-system, and a container beside the client: here one of each per cluster. */
function staticPods(config: MachineConfig): (readonly ['discovery' | 'sidecar', readonly string[]])[] {
  const { discovery, sidecar } = config
  const pods: (readonly ['discovery' | 'sidecar', readonly string[]])[] = [
    [
      'discovery',
      [
        ...['discovery', '--cluster', config.cluster, '--objects', config.yaml],
        ...['--certs', discovery.certs, '--ads', discovery.ads, '--ads-plain', discovery.adsPlain],
        ...['--admin', discovery.admin, '--health', discovery.health, '--metrics', discovery.metrics],
      ],
    ],
  ]
  if (sidecar === undefined) return pods
  const upstream = sidecar.dnsUpstream === undefined ? [] : ['--dns-upstream', sidecar.dnsUpstream]
  const run = join(config.run, 'sidecar')
  mkdirSync(run, { recursive: true })
  pods.push([
    'sidecar',
    [
      ...['sidecar', '--cluster', config.cluster, '--name', 'sleep', '--namespace', 'client'],
      ...['--discovery', discovery.ads, '--certs', sidecar.certs, '--run-dir', run, '--bind', sidecar.bind],
      ...['--dns', sidecar.dns, ...upstream, '--socks', sidecar.socks, '--connect', sidecar.connect],
      ...['--admin', sidecar.admin, '--health', sidecar.health, '--metrics', sidecar.metrics],
    ],
  ])
  return pods
}
