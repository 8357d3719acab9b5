import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { contentHash } from '../../lib/canonical.ts'
import type { Container, Deployment, Manifest } from '../../objects/types.ts'
import { type ContainerCommand, containerCommand } from './container-command.ts'
import type { ProcessTree } from './descendants.ts'
import type { PodFacts } from './endpoint-slices.ts'
import { freePort } from './free-address.ts'
import { KeptProcess } from './kept-process.ts'
import { type MachineConfig, ON_LOOPBACK, type PodReport } from './machine-config.ts'
import { field, type Probe, probe, probeOf } from './probe.ts'

/** Between two readiness probes, milliseconds; while a pod is not ready yet they come quicker. */
const PROBE_MS = 1_000
const FIRST_PROBES_MS = 100
/** This many failed probes in a row make a ready pod not ready. */
const FAILURE_THRESHOLD = 2
/** Kubernetes' default of `terminationGracePeriodSeconds`. */
const GRACE_MS = 30_000

export interface PodEvents {
  changed(): void
  notice(text: string): void
  /** Writes `tls.crt`, `tls.key` and `ca.crt` for a service account into the folder. */
  issueCertificate(namespace: string, serviceAccount: string, directory: string): Promise<void>
}

export interface GatewayPorts {
  readonly data: number
  readonly admin: number
  readonly health: number
  readonly metrics: number
}

/** One pod, run as a process on an address of its own: what a kubelet does. Restarted in place; `stop` ends it for good. */
export class DemoPod {
  readonly name: string
  readonly namespace: string
  readonly deployment: string
  /** Of the template it was made from. */
  readonly hash: string
  readonly ip: string
  readonly #config: MachineConfig
  readonly #template: Deployment['spec']['template']
  readonly #container: Container
  readonly #command: ContainerCommand
  readonly #events: PodEvents
  readonly #graceMs: number
  readonly #logFile: string
  #probe: Probe
  #process: KeptProcess | undefined
  #gateway: GatewayPorts | undefined
  #timer: NodeJS.Timeout | undefined
  #failures = 0
  #ready = false
  #terminating = false

  private constructor(
    deployment: Deployment,
    container: Container,
    command: ContainerCommand,
    ordinal: number,
    ip: string,
    config: MachineConfig,
    events: PodEvents,
  ) {
    this.hash = templateHash(deployment)
    this.name = `${deployment.metadata.name}-${this.hash}-${ordinal}`
    this.namespace = deployment.metadata.namespace
    this.deployment = deployment.metadata.name
    this.ip = ip
    this.#config = config
    this.#template = deployment.spec.template
    this.#container = container
    this.#command = command
    this.#events = events
    const podSpec = field(deployment.raw, 'spec', 'template', 'spec')
    this.#probe = probeOf(container, field(podSpec, 'containers', 0))
    const graceSeconds = field(podSpec, 'terminationGracePeriodSeconds')
    this.#graceMs = typeof graceSeconds === 'number' ? graceSeconds * 1_000 : GRACE_MS
    this.#logFile = join(config.logs, `${this.namespace}.${this.name}.log`)
  }

  /** Undefined where nothing of its template can be run on this machine. */
  static create(
    deployment: Deployment,
    ordinal: number,
    ip: string,
    config: MachineConfig,
    events: PodEvents,
  ): DemoPod | undefined {
    const container = deployment.spec.template.spec.containers[0]
    const command = container === undefined ? undefined : containerCommand(container)
    if (container === undefined || command === undefined) return undefined
    return new DemoPod(deployment, container, command, ordinal, ip, config, events)
  }

  static isGateway(deployment: Deployment): boolean {
    const container = deployment.spec.template.spec.containers[0]
    return container !== undefined && containerCommand(container)?.gateway === true
  }

  get gatewayPorts(): GatewayPorts | undefined {
    return this.#gateway
  }
  get ready(): boolean {
    return this.#ready && !this.#terminating
  }
  get terminating(): boolean {
    return this.#terminating
  }

  async start(): Promise<void> {
    const extra = this.#command.gateway ? await this.#gatewayArguments() : []
    const [program, ...args] = this.#command.argv
    this.#process = new KeptProcess(
      {
        name: this.name,
        argv: [program, ...args, ...extra],
        env: this.#environment(),
        logFile: this.#logFile,
        foreign: this.#command.foreign,
      },
      { onStart: () => this.#started(), onRestart: (how, delayMs) => this.#restarting(how, delayMs) },
    )
    if (!this.#terminating) this.#process.start()
  }

  #environment(): Record<string, string> {
    const env = Object.fromEntries(this.#container.env.map(({ name, value }) => [name, value]))
    const dns = this.#config.podDns === undefined ? {} : { ISTHMUS_DNS: this.#config.podDns }
    return { ...env, ...dns, ...ON_LOOPBACK, POD_IP: this.ip, POD_NAME: this.name }
  }

  /** What a pod would get from its volumes and its own network: certificates, the run folder, addresses. Later flags win. */
  async #gatewayArguments(): Promise<string[]> {
    const certs = join(this.#config.run, this.name, 'certs')
    const run = join(this.#config.run, this.name, 'run')
    mkdirSync(run, { recursive: true })
    await this.#events.issueCertificate(this.namespace, this.#template.spec.serviceAccountName, certs)
    const ports: GatewayPorts = {
      data: await freePort(this.ip, 15_443),
      admin: await freePort(this.ip, 15_000),
      health: await freePort(this.ip, 15_021),
      metrics: await freePort(this.ip, 15_020),
    }
    if (ports.data !== 15_443)
      this.#events.notice(
        `${this.name}: port 15443 of ${this.ip} is taken, the gateway listens on ${ports.data}`,
      )
    this.#gateway = ports
    this.#probe = { kind: 'http', port: ports.health, path: '/readyz' }
    return [
      ...['--certs', certs, '--run-dir', run],
      ...['--discovery', this.#config.discovery.ads],
      ...['--bind', `${this.ip}:${ports.data}`],
      ...['--admin', `${this.ip}:${ports.admin}`],
      ...['--health', `${this.ip}:${ports.health}`],
      ...['--metrics', `${this.ip}:${ports.metrics}`],
      // Many pods share this machine, and its load balancer hears of a pod's end at once.
      ...['--workers', '1', '--drain-delay', '500ms'],
    ]
  }

  #started(): void {
    this.#failures = 0
    this.#events.changed()
    this.#schedule(FIRST_PROBES_MS)
  }

  #restarting(how: string, delayMs: number): void {
    clearTimeout(this.#timer)
    this.#ready = false
    this.#events.notice(`${this.name} ended (${how}); started again in ${delayMs} ms`)
    this.#events.changed()
  }

  #schedule(delayMs: number): void {
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => void this.#check(), delayMs)
  }

  async #check(): Promise<void> {
    const process = this.#process?.pid
    const answered = await probe(this.#probe, this.ip)
    if (this.#process?.pid !== process || process === undefined) return
    this.#failures = answered ? 0 : this.#failures + 1
    const ready = answered || (this.#ready && this.#failures < FAILURE_THRESHOLD)
    if (ready !== this.#ready) {
      this.#ready = ready
      this.#events.changed()
    }
    if (this.#probe.kind !== 'none') this.#schedule(ready ? PROBE_MS : FIRST_PROBES_MS)
  }

  /** SIGTERM, the grace period, SIGKILL. Endpoints see it terminating at once. */
  async stop(): Promise<void> {
    if (this.#terminating) return
    this.#terminating = true
    this.#events.changed()
    await this.#process?.stop(this.#graceMs)
    clearTimeout(this.#timer)
  }

  facts(): PodFacts {
    return {
      name: this.name,
      namespace: this.namespace,
      labels: this.#template.labels,
      ip: this.ip,
      nodeName: this.#config.cluster,
      zone: this.#config.zone,
      ready: this.#ready,
      terminating: this.#terminating,
      containers: this.#template.spec.containers,
    }
  }

  report(processTree: ProcessTree): PodReport {
    const ports = this.#gateway
    return {
      name: this.name,
      namespace: this.namespace,
      deployment: this.deployment,
      ip: this.ip,
      ready: this.ready,
      terminating: this.#terminating,
      pids: processTree(this.#process?.pid),
      gateway: ports && {
        address: `${this.ip}:${ports.data}`,
        admin: `${this.ip}:${ports.admin}`,
        health: `${this.ip}:${ports.health}`,
        log: this.#logFile,
      },
    }
  }

  manifest(): Manifest {
    const status = this.ready ? 'True' : 'False'
    return {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: {
        name: this.name,
        namespace: this.namespace,
        labels: { ...this.#template.labels, 'pod-template-hash': this.hash },
        annotations: this.#template.annotations,
      },
      spec: {
        serviceAccountName: this.#template.spec.serviceAccountName,
        nodeName: this.#config.cluster,
        containers: this.#template.spec.containers.map(({ name, image, ports }) => ({ name, image, ports })),
      },
      status: {
        phase: 'Running',
        hostIP: this.#config.nodeAddress,
        podIP: this.ip,
        podIPs: [{ ip: this.ip }],
        conditions: [
          { type: 'Ready', status, reason: this.ready ? 'ProbeSucceeded' : 'ProbeFailed', message: '' },
        ],
      },
    }
  }
}

/** Changes when anything in the pod template does, so that a changed Deployment gets new pods. */
export function templateHash(deployment: Deployment): string {
  return contentHash(JSON.stringify(field(deployment.raw, 'spec', 'template') ?? null)).slice(0, 5)
}
