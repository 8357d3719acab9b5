import { renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { DemoCluster, World } from './world.ts'

/** What `--state FILE` says, for scripts and tools: addresses as `host:port`, files as absolute paths. */
function describeWorld(world: World, ready: boolean): Record<string, unknown> {
  return {
    ready,
    folder: world.folder,
    clusters: Object.fromEntries(
      world.clusters.map((cluster) => [cluster.name, describeCluster(world, cluster)]),
    ),
  }
}

function describeCluster(
  world: World,
  { name, config, state, namespace }: DemoCluster,
): Record<string, unknown> {
  const { discovery, sidecar } = config
  const folder = join(world.folder, name)
  const sleep = join(folder, 'identities', 'sleep')
  const [gateway] = state.pods.flatMap((pod) =>
    pod.gateway !== undefined && pod.ready ? [{ pod, ...pod.gateway }] : [],
  )
  return {
    trustDomain: config.trustDomain,
    network: state.network,
    yaml: config.yaml,
    ca: {
      cert: join(config.ca, 'ca-cert.pem'),
      key: join(config.ca, 'ca-key.pem'),
      root: join(config.ca, 'root-cert.pem'),
    },
    gateway:
      gateway === undefined
        ? null
        : { address: gateway.address, admin: gateway.admin, pids: gateway.pod.pids },
    discovery: {
      ads: discovery.ads,
      adsPlain: discovery.adsPlain,
      admin: discovery.admin,
      pids: state.discovery.pids,
    },
    sidecar:
      sidecar === undefined
        ? null
        : {
            dns: sidecar.dns,
            socks: sidecar.socks,
            connect: sidecar.connect,
            admin: sidecar.admin,
            pids: state.sidecar?.pids ?? [],
          },
    identities: {
      sleep: {
        cert: join(sleep, 'tls.crt'),
        key: join(sleep, 'tls.key'),
        roots: join(sleep, 'roots.pem'),
        spiffe: `spiffe://${config.trustDomain}/ns/client/sa/sleep`,
      },
    },
    pods: state.pods.map(({ gateway: serving, ...pod }) => ({
      name: pod.name,
      namespace: pod.namespace,
      ip: pod.ip,
      ready: pod.ready,
      pids: pod.pids,
      gateway: serving === undefined ? null : { address: serving.address, admin: serving.admin },
    })),
    logs: config.logs,
    // Where it runs: `nsenter -t PID -n -m` (from outside, `-U` too). Null without --netns.
    namespaces: namespace?.pid ?? null,
  }
}

/** Keeps a file in step with the world: written whole and renamed, at each change; gone with `stop`. */
export class StateFile {
  readonly #path: string
  readonly #world: World
  #ready: boolean
  #written = ''

  /** With `ready` false until `serves()`. */
  constructor(path: string, world: World, ready: boolean) {
    this.#path = path
    this.#world = world
    this.#ready = ready
  }

  serves(): void {
    this.#ready = true
    this.#write()
  }

  start(): void {
    this.#write()
    this.#world.on('change', this.#write)
  }

  stop(): void {
    this.#world.off('change', this.#write)
    if (this.#written !== '') rmSync(this.#path, { force: true })
  }

  readonly #write = (): void => {
    const text = `${JSON.stringify(describeWorld(this.#world, this.#ready), null, 2)}\n`
    if (text === this.#written) return
    const half = `${this.#path}.${process.pid}.tmp`
    writeFileSync(half, text)
    renameSync(half, this.#path)
    this.#written = text
  }
}
