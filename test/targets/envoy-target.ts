import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { create, fromBinary, fromJson, toBinary } from '@bufbuild/protobuf'
import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire'
import { AnySchema, StructSchema } from '@bufbuild/protobuf/wkt'
import { silentLogger } from '../../src/lib/log.ts'
import { ok } from '../../src/lib/result.ts'
import { AccessLogSchema } from '../../src/xds/gen/envoy/config/accesslog/v3/accesslog_pb.js'
import { MetadataSchema } from '../../src/xds/gen/envoy/config/core/v3/base_pb.js'
import { ListenerSchema } from '../../src/xds/gen/envoy/config/listener/v3/listener_pb.js'
import { rawResource } from '../../src/xds/resource.ts'
import { XdsServer } from '../../src/xds/server.ts'
import type { ClientStatus } from '../../src/xds/server-stream.ts'
import { SnapshotCache } from '../../src/xds/snapshot-cache.ts'
import { TYPE, type XdsResource } from '../../src/xds/types.ts'
import { byType, ENVOY, type EndedConnection, EndedLog, type Resources, type Target } from './target.ts'

/** How long a real Envoy may take to start or to take a change over on a busy machine. */
const PATIENCE_MS = 30_000

/** Of util-linux: its child dies with this process, however that ends, which Envoy alone would outlive. */
const SETPRIV = '/usr/bin/setpriv'

/** One line per connection. Empty where Envoy writes null. */
const LOG_FORMAT = {
  client: '%DOWNSTREAM_DIRECT_REMOTE_ADDRESS%',
  sni: '%REQUESTED_SERVER_NAME%',
  peerId: '%DOWNSTREAM_PEER_URI_SAN%',
  bytesIn: '%BYTES_RECEIVED%',
  bytesOut: '%BYTES_SENT%',
  flags: '%RESPONSE_FLAGS%',
  code: '%RESPONSE_CODE_DETAILS%',
  termination: '%CONNECTION_TERMINATION_DETAILS%',
  downstreamTls: '%DOWNSTREAM_TRANSPORT_FAILURE_REASON%',
  upstreamTls: '%UPSTREAM_TRANSPORT_FAILURE_REASON%',
}
type LogLine = Readonly<Record<keyof typeof LOG_FORMAT, string | number | null>>

export interface EnvoyTargetOptions {
  /** State of the World instead of Delta. */
  readonly sotw?: boolean
}

/** A real Envoy: a static bootstrap that points at our own xDS server, and everything else by ADS from there. */
export class EnvoyTarget implements Target {
  readonly kind = 'envoy'
  readonly #ended = new EndedLog()
  readonly #view = new SnapshotCache()
  readonly #xds = new XdsServer({
    authorize: () => ok(this.#view),
    ready: () => true,
    logger: silentLogger,
  })
  #folder = ''
  #sotw = false
  #process: ChildProcess | undefined
  #admin = ''
  #ports: Readonly<Record<string, number>> = {}

  static async start(resources: Resources, options: EnvoyTargetOptions = {}): Promise<EnvoyTarget> {
    const target = new EnvoyTarget()
    target.show(resources)
    await target.#start(options)
    await target.#inForce(resources)
    return target
  }

  get pid(): number {
    return this.#process?.pid ?? 0
  }

  get log(): readonly EndedConnection[] {
    return this.#ended.lines
  }

  async update(resources: Resources): Promise<void> {
    this.show(resources)
    await this.#inForce(resources)
  }

  /** What the server knows of it; undefined while it is not connected. */
  status(): ClientStatus | undefined {
    return this.#xds.clients()[0]
  }

  /** Resolves once `holds` does. */
  async until(what: string, holds: () => boolean): Promise<void> {
    const begun = Date.now()
    while (!holds()) await this.#pause(begun, what)
  }

  port(listener: string): number {
    const port = this.#ports[listener]
    if (port === undefined) throw new Error(`no listener ${listener}`)
    return port
  }

  ended(clientPort: number, from?: number): Promise<EndedConnection> {
    return this.#ended.find(clientPort, from)
  }

  async stop(): Promise<void> {
    const child = this.#process
    if (child !== undefined && child.exitCode === null && child.signalCode === null) {
      const exit = once(child, 'exit')
      child.kill('SIGKILL')
      await exit
    }
    await this.#xds.close(0)
    await rm(this.#folder, { recursive: true, force: true })
  }

  /** Serves these from now on, whatever becomes of it. */
  show(resources: Resources): void {
    this.#view.set(
      new Map(
        byType(resources).map(([typeUrl, list]) => [
          typeUrl,
          new Map(
            list.map((resource) => [resource.name, typeUrl === TYPE.listener ? logged(resource) : resource]),
          ),
        ]),
      ),
    )
  }

  async #start({ sotw = false }: EnvoyTargetOptions): Promise<void> {
    this.#sotw = sotw
    const at = await this.#xds.listen({ host: '127.0.0.1', port: 0 })
    if (!('port' in at)) throw new Error('no port')
    this.#folder = await mkdtemp(join(tmpdir(), 'isthmus-envoy-'))
    const file = (name: string) => join(this.#folder, name)
    await writeFile(file('bootstrap.yaml'), JSON.stringify(bootstrap(at.port, sotw)))
    const [command, ...first] = existsSync(SETPRIV) ? [SETPRIV, '--pdeathsig', 'KILL', ENVOY] : [ENVOY]
    const child = spawn(
      command ?? ENVOY,
      [
        ...first,
        ...['-c', file('bootstrap.yaml'), '--admin-address-path', file('admin')],
        ...['--disable-hot-restart', '--concurrency', '1', '-l', 'error', '--file-flush-interval-msec', '5'],
      ],
      { stdio: ['ignore', 'pipe', 'ignore'] },
    )
    this.#process = child
    createInterface({ input: child.stdout as NodeJS.ReadableStream }).on('line', (line) => this.#hear(line))
    const begun = Date.now()
    while (this.#admin === '') {
      this.#admin = (await readFile(file('admin'), 'utf8').catch(() => '')).trim()
      await this.#pause(begun, 'its admin address')
    }
  }

  /** Until Envoy has acknowledged everything and runs what it has acknowledged; a refusal is an error. */
  async #inForce(resources: Resources): Promise<void> {
    const begun = Date.now()
    for (;;) {
      const [client] = this.#xds.clients()
      for (const { lastError } of Object.values(client?.types ?? {}))
        if (lastError !== '') throw new Error(`Envoy refuses: ${lastError}`)
      const acked = Object.values(client?.types ?? {}).every((type) => type.sentVersion === type.ackedVersion)
      if (acked && (await this.#runs(resources))) return
      await this.#pause(begun, 'its configuration')
    }
  }

  async #runs({ listeners, clusters, secrets }: Resources): Promise<boolean> {
    const { configs = [] } = (await this.get('/config_dump')) as ConfigDump
    const entries = configs.flatMap((config) => [
      ...(config.dynamic_listeners ?? []),
      ...(config.dynamic_active_clusters ?? []),
      ...(config.dynamic_active_secrets ?? []),
    ])
    if (entries.some((entry) => entry.warming_state !== undefined)) return false
    const running = new Set(
      entries.map((entry) => entry.version_info ?? versionOf(entry.active_state?.listener)),
    )
    // In State of the World Envoy tells the version of a whole type, which it has acknowledged.
    const told =
      this.#sotw || [...listeners, ...clusters, ...secrets].every(({ version }) => running.has(version))
    if (!told) return false
    const { listener_statuses: statuses = [] } = (await this.get(
      '/listeners?format=json',
    )) as ListenerStatuses
    if (statuses.length !== listeners.length) return false
    this.#ports = Object.fromEntries(
      statuses.map(({ name, local_address: { socket_address: at } }) => [name, at.port_value]),
    )
    return true
  }

  /** Of its admin port. */
  async get(path: string): Promise<unknown> {
    const response = await fetch(`http://${this.#admin}${path}`)
    return response.json()
  }

  /** A data plane of others tells nobody when it is ready: this asks again, a little later. */
  async #pause(begun: number, what: string): Promise<void> {
    const { exitCode, signalCode } = this.#process ?? {}
    if (exitCode !== null || signalCode !== null)
      throw new Error(`Envoy ended by itself: ${exitCode ?? signalCode}`)
    if (Date.now() - begun > PATIENCE_MS) throw new Error(`Envoy did not come to ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 5))
  }

  #hear(line: string): void {
    const entry = JSON.parse(line) as LogLine
    const text = (key: keyof LogLine) => String(entry[key] ?? '')
    this.#ended.add({
      clientPort: Number(text('client').split(':').at(-1)),
      sni: text('sni'),
      peerId: text('peerId'),
      bytesIn: Number(text('bytesIn')),
      bytesOut: Number(text('bytesOut')),
      flag: text('flags') || '-',
      detail: [text('code'), text('termination'), text('downstreamTls'), text('upstreamTls')]
        .filter((part) => part !== '')
        .join('; '),
    })
  }
}

interface ConfigDump {
  readonly configs?: readonly {
    readonly [list in 'dynamic_listeners' | 'dynamic_active_clusters' | 'dynamic_active_secrets']?: readonly {
      readonly version_info?: string
      readonly active_state?: { readonly listener?: DumpedListener }
      readonly warming_state?: object
    }[]
  }[]
}

interface DumpedListener {
  readonly filter_chains?: readonly {
    readonly metadata?: { readonly filter_metadata?: { readonly target?: { readonly version?: string } } }
  }[]
}

/** The version that was written into the first filter chain: `version_info` stays that of the first form when chains are changed in place. */
function versionOf(listener: DumpedListener | undefined): string | undefined {
  return listener?.filter_chains?.[0]?.metadata?.filter_metadata?.target?.version
}

interface ListenerStatuses {
  readonly listener_statuses?: readonly {
    readonly name: string
    readonly local_address: { readonly socket_address: { readonly port_value: number } }
  }[]
}

/** `StdoutAccessLog` (no generated code here): log_format = 1; `SubstitutionFormatString`: json_format = 2. */
const STDOUT_ACCESS_LOG = create(AnySchema, {
  typeUrl: 'type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog',
  value: field(1, field(2, toBinary(StructSchema, fromJson(StructSchema, LOG_FORMAT)))),
})

function field(no: number, bytes: Uint8Array): Uint8Array {
  return new BinaryWriter().tag(no, WireType.LengthDelimited).bytes(bytes).finish()
}

/**
 * The same listener with the listener's own access log, which has a line for every connection, refused ones too, and its version
 * where the admin port shows it.
 */
function logged(resource: XdsResource): XdsResource {
  const listener = fromBinary(ListenerSchema, resource.body)
  listener.accessLog = [
    create(AccessLogSchema, {
      name: 'envoy.access_loggers.stdout',
      configType: { case: 'typedConfig', value: STDOUT_ACCESS_LOG },
    }),
  ]
  const [first] = listener.filterChains
  if (first !== undefined)
    first.metadata = create(MetadataSchema, { filterMetadata: { target: { version: resource.version } } })
  return rawResource(resource.name, resource.anyTypeUrl, toBinary(ListenerSchema, listener))
}

/** JSON is YAML. */
function bootstrap(xdsPort: number, sotw: boolean): object {
  const ads = { ads: {}, resource_api_version: 'V3' }
  const address = { socket_address: { address: '127.0.0.1', port_value: xdsPort } }
  return {
    node: { id: 'target', cluster: 'test' },
    admin: { address: { socket_address: { address: '127.0.0.1', port_value: 0 } } },
    dynamic_resources: {
      ads_config: {
        api_type: sotw ? 'GRPC' : 'DELTA_GRPC',
        transport_api_version: 'V3',
        set_node_on_first_message_only: true,
        grpc_services: [{ envoy_grpc: { cluster_name: 'xds' } }],
      },
      cds_config: ads,
      lds_config: ads,
    },
    static_resources: {
      clusters: [
        {
          name: 'xds',
          type: 'STATIC',
          connect_timeout: '1s',
          typed_extension_protocol_options: {
            'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
              '@type': 'type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions',
              explicit_http_config: { http2_protocol_options: {} },
            },
          },
          load_assignment: {
            cluster_name: 'xds',
            endpoints: [{ lb_endpoints: [{ endpoint: { address } }] }],
          },
        },
      ],
    },
  }
}
