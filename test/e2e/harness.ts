// Drives the real demo: one process started as a user would start it, its state file, and real curl and openssl beside it.
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Test } from 'tap'

export const BIN = fileURLToPath(new URL('../../src/isthmus.js', import.meta.url))
const START_MS = 100_000
const AGAIN_MS = 100

export interface ClusterState {
  readonly trustDomain: string
  readonly network: string
  readonly yaml: string
  readonly logs: string
  readonly ca: { readonly cert: string; readonly key: string; readonly root: string }
  readonly gateway: {
    readonly address: string
    readonly admin: string
    readonly pids: readonly number[]
  } | null
  readonly discovery: {
    readonly ads: string
    readonly adsPlain: string
    readonly admin: string
    readonly pids: readonly number[]
  }
  readonly sidecar: {
    readonly dns: string
    readonly socks: string
    readonly connect: string
    readonly admin: string
    readonly pids: readonly number[]
  } | null
  readonly identities: {
    readonly sleep: {
      readonly cert: string
      readonly key: string
      readonly roots: string
      readonly spiffe: string
    }
  }
  readonly pods: readonly {
    readonly name: string
    readonly namespace: string
    readonly ip: string
    readonly ready: boolean
    readonly pids: readonly number[]
    readonly gateway: { readonly address: string; readonly admin: string } | null
  }[]
}
export interface DemoState {
  readonly ready: boolean
  readonly folder: string
  readonly clusters: Readonly<Record<string, ClusterState>>
}

export interface Outcome {
  readonly code: number | null
  readonly output: string
}

/** Runs a command to its end; standard output and error together. */
export async function run(
  argv: readonly string[],
  options: { cwd?: string; env?: Record<string, string>; timeoutMs?: number } = {},
): Promise<Outcome> {
  const child = spawn(argv[0]!, argv.slice(1), {
    cwd: options.cwd,
    env: { ...process.env, ...options.env },
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: options.timeoutMs ?? 30_000,
    killSignal: 'SIGKILL',
  })
  let output = ''
  child.stdout.on('data', (chunk: Buffer) => (output += chunk.toString()))
  child.stderr.on('data', (chunk: Buffer) => (output += chunk.toString()))
  const [code] = (await once(child, 'close')) as [number | null]
  return { code, output }
}

/** Asks again until the answer is there; the last answer stands in the error. */
export async function until<T>(
  what: string,
  withinMs: number,
  ask: () => Promise<T | undefined> | T | undefined,
): Promise<T> {
  const deadline = Date.now() + withinMs
  for (;;) {
    const answer = await ask()
    if (answer !== undefined) return answer
    if (Date.now() > deadline) throw new Error(`not within ${withinMs} ms: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, AGAIN_MS))
  }
}

export class Demo {
  readonly child: ChildProcess
  readonly stateFile: string
  #output = ''

  constructor(child: ChildProcess, stateFile: string) {
    this.child = child
    this.stateFile = stateFile
    for (const stream of [child.stdout, child.stderr])
      stream?.on('data', (chunk: Buffer) => (this.#output += chunk.toString()))
  }

  /** Everything it printed. */
  get output(): string {
    return this.#output
  }

  get state(): DemoState {
    return JSON.parse(readFileSync(this.stateFile, 'utf8')) as DemoState
  }

  cluster(name: string): ClusterState {
    const cluster = this.state.clusters[name]
    if (cluster === undefined) throw new Error(`no ${name} in the state file`)
    return cluster
  }

  /** A shell command line in the demo's folder. */
  sh(command: string): Promise<Outcome> {
    return run(['sh', '-c', command], { cwd: this.state.folder })
  }

  /** An HTTP call from a cluster by a name of the mesh, through its sidecar. */
  curl(cluster: string, target: string, ...flags: readonly string[]): Promise<Outcome> {
    const proxy = ['--proxytunnel', '--proxy', `http://${this.cluster(cluster).sidecar?.connect}`]
    return run(['curl', '-sS', '--max-time', '10', ...proxy, ...flags, target], {
      env: { no_proxy: '', NO_PROXY: '' },
      // curl has its own limit, which a flag may raise.
      timeoutMs: 120_000,
    })
  }

  page(cluster: string): Promise<Outcome> {
    return this.curl(cluster, 'productpage.bookinfo:9080/productpage')
  }

  /** Until the page answers in a cluster; the milliseconds it took. */
  async pageAnswers(cluster: string, withinMs: number): Promise<number> {
    const startedMs = Date.now()
    let last = ''
    await until(`the page in ${cluster}`, withinMs, async () => {
      const { output } = await this.page(cluster)
      last = output
      return hasTitle(output) ? true : undefined
    }).catch((error: Error) => {
      throw new Error(`${error.message}; last answer: ${last}`)
    })
    return Date.now() - startedMs
  }

  apply(cluster: string, ...files: readonly string[]): Promise<Outcome> {
    return this.sh(`./isthmus apply ${files.map((file) => `-f ${file}`).join(' ')} --dir ${cluster}/yaml`)
  }

  /** Straight at an address over TLS: what `openssl s_client` prints, sending an HTTP request and waiting for the answer. */
  knock(
    address: string,
    serverName: string,
    identity?: { cert: string; key: string; roots: string },
  ): Promise<Outcome> {
    const credential =
      identity === undefined
        ? ''
        : `-cert ${identity.cert} -key ${identity.key} -cert_chain ${identity.cert} -CAfile ${identity.roots}`
    const request = `printf 'GET /health HTTP/1.0\\r\\n\\r\\n'`
    return this.sh(
      `(${request}; sleep 1) | openssl s_client -connect ${address} -servername ${serverName} ${credential} -quiet -verify_quiet 2>&1`,
    )
  }

  /** Lines of a log file, parsed; those that are no JSON are left out. */
  log(cluster: string, file: RegExp): Record<string, unknown>[] {
    const { logs } = this.cluster(cluster)
    const files = readdirSync(logs).filter((name) => file.test(name))
    return files.flatMap((name) => readFileSync(join(logs, name), 'utf8').split('\n').flatMap(parseLine))
  }

  async stop(signal: NodeJS.Signals = 'SIGINT'): Promise<number | null> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return this.child.exitCode
    this.child.kill(signal)
    const [code] = (await once(this.child, 'exit')) as [number | null]
    return code
  }
}

export const hasTitle = (output: string): boolean => output.includes('<title>Simple Bookstore App</title>')

export const serverName = (service: string, port = 9080): string =>
  `outbound_.${port}_._.${service}.bookinfo.svc.cluster.local`

function parseLine(line: string): Record<string, unknown>[] {
  try {
    return [JSON.parse(line) as Record<string, unknown>]
  } catch {
    return []
  }
}

/** Starts a demo that skips the story and waits until everything serves (S6 is true). Ended with the test. */
export async function startDemo(t: Test, ...flags: readonly string[]): Promise<Demo> {
  const folder = mkdtempSync(join(tmpdir(), 'isthmus-state-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const stateFile = join(folder, 'state.json')
  const child = spawn(process.execPath, [BIN, 'demo', '--no-story', '--state', stateFile, ...flags], {
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const demo = new Demo(child, stateFile)
  t.teardown(() => demo.stop())
  await until('the demo serves', START_MS, () => {
    if (child.exitCode !== null) throw new Error(`the demo ended:\n${demo.output}`)
    return existsSync(stateFile) ? true : undefined
  }).catch((error: Error) => {
    throw new Error(`${error.message}\n${demo.output}`)
  })
  return demo
}

/** The services of which a cluster has a generated ServiceEntry, sorted. */
export async function entries(demo: Demo, cluster: string): Promise<string[]> {
  const { output } = await demo.sh(
    `./isthmus get serviceentries -n xcp-multicluster -o name --dir ${cluster}/yaml`,
  )
  return [...output.matchAll(/global-gwinternal-(\w+)-/g)].map(([, service = '']) => service).sort()
}

/** Until the gateway in a namespace of cluster-1 is ready: where it is. */
export function gatewayIn(
  demo: Demo,
  namespace: string,
): Promise<{ readonly address: string; readonly admin: string }> {
  return until(`the gateway in ${namespace}`, 30_000, () => {
    const { pods } = demo.cluster('cluster-1')
    return (
      pods.find((pod) => pod.namespace === namespace && pod.gateway !== null && pod.ready)?.gateway ??
      undefined
    )
  })
}

/** Which of these processes still live. */
export function alive(pids: readonly number[]): number[] {
  return pids.filter((pid) => {
    try {
      process.kill(pid, 0)
      return !isZombie(pid)
    } catch {
      return false
    }
  })
}

/** Processes that have this text in their command line. */
export function processesWith(text: string): number[] {
  return readdirSync('/proc').flatMap((name) => {
    if (!/^\d+$/.test(name) || Number(name) === process.pid) return []
    try {
      return readFileSync(`/proc/${name}/cmdline`, 'utf8').includes(text) ? [Number(name)] : []
    } catch {
      return []
    }
  })
}

function isZombie(pid: number): boolean {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
  return stat.slice(stat.lastIndexOf(')') + 2).startsWith('Z')
}

/** Every process that the demo says it runs. */
export function allPids(state: DemoState): number[] {
  return Object.values(state.clusters).flatMap(({ discovery, sidecar, pods }) => [
    ...discovery.pids,
    ...(sidecar?.pids ?? []),
    ...pods.flatMap(({ pids }) => pids),
  ])
}
