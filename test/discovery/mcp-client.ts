// What an Istio control plane does with an `xds://` address of its `configSources`, message by message: istio/istio pkg/adsc/adsc.go
// (ConfigInitialRequests, handleRecv, ack, HasSynced) and pilot/pkg/bootstrap/configcontroller.go.
import type { BinaryReader } from '@bufbuild/protobuf/wire'
import { readFields, readMap, readText } from '../../src/resources/protobuf-fields.ts'
import type { XdsResponse } from '../../src/xds/messages.ts'
import type { XdsResource } from '../../src/xds/types.ts'
import { RawStream } from '../xds/wire.ts'

/** `collections.Pilot` of Istio 1.31, MeshConfig before it. */
export const REQUESTED = [
  'core/v1alpha1/MeshConfig',
  'security.istio.io/v1/AuthorizationPolicy',
  'networking.istio.io/v1/DestinationRule',
  'networking.istio.io/v1alpha3/EnvoyFilter',
  'networking.istio.io/v1/Gateway',
  'security.istio.io/v1/PeerAuthentication',
  'networking.istio.io/v1beta1/ProxyConfig',
  'security.istio.io/v1/RequestAuthentication',
  'networking.istio.io/v1/ServiceEntry',
  'networking.istio.io/v1/Sidecar',
  'telemetry.istio.io/v1/Telemetry',
  'extensions.istio.io/v1alpha1/TrafficExtension',
  'networking.istio.io/v1/VirtualService',
  'extensions.istio.io/v1alpha1/WasmPlugin',
  'networking.istio.io/v1/WorkloadEntry',
  'networking.istio.io/v1/WorkloadGroup',
]

/** A resource as `mcpToPilot` reads it. */
export interface McpConfig {
  readonly name: string
  /** Seconds; undefined where it was not said. */
  readonly createTime: number | undefined
  readonly version: string
  readonly labels: Readonly<Record<string, string>>
  readonly annotations: Readonly<Record<string, string>>
  readonly bodyType: string
  readonly body: Uint8Array
}

export class McpClient {
  readonly #stream: RawStream
  readonly #store = new Map<string, Map<string, McpConfig>>()
  readonly #synced = new Set<string>()
  readonly #checks = new Set<() => void>()
  /** Responses of each type. */
  readonly received = new Map<string, number>()

  constructor(address: string, types: readonly string[] = REQUESTED) {
    this.#stream = new RawStream(address, 'sotw')
    for (const typeUrl of types) this.#stream.send({ typeUrl, node: NODE })
    void this.#read()
  }

  get synced(): boolean {
    return REQUESTED.slice(1).every((type) => this.#synced.has(type))
  }

  /** What the control plane has of a kind, by `namespace/name`. */
  list(kind: string): ReadonlyMap<string, McpConfig> {
    return this.#store.get(kind) ?? new Map()
  }

  async until(what: string, holds: () => boolean, timeoutMs = 5_000): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    const check = (): void => {
      if (holds()) resolve()
    }
    const timer = setTimeout(() => reject(new Error(`did not happen: ${what}`)), timeoutMs)
    this.#checks.add(check)
    check()
    await promise.finally(() => {
      clearTimeout(timer)
      this.#checks.delete(check)
    })
  }

  close(): void {
    this.#stream.close()
  }

  async #read(): Promise<void> {
    for (;;) {
      const response = await this.#stream.next()
      this.#take(response)
      this.#stream.ack(response, { node: NODE })
      for (const check of [...this.#checks]) check()
    }
  }

  /** State of the world: what is not in a response is gone. */
  #take({ typeUrl, resources }: XdsResponse): void {
    this.received.set(typeUrl, (this.received.get(typeUrl) ?? 0) + 1)
    this.#synced.add(typeUrl)
    const configs = resources.map((resource) => readConfig(resource))
    this.#store.set(
      typeUrl.slice(typeUrl.lastIndexOf('/') + 1),
      new Map(configs.map((config) => [config.name, config])),
    )
  }
}

const NODE = {
  id: 'sidecar~10.0.0.7~istiod-5d8b7c-x2x9k.istio-system~istio-system.svc.cluster.local',
  cluster: '',
  metadata: { GENERATOR: 'api', ISTIO_REVISION: 'default', ISTIO_VERSION: '65536.65536.65536' },
  locality: { region: '', zone: '' },
  userAgentName: '',
}

function readConfig(resource: XdsResource): McpConfig {
  if (resource.anyTypeUrl !== 'type.googleapis.com/istio.mcp.v1alpha1.Resource')
    throw new Error(`no MCP resource: ${resource.anyTypeUrl}`)
  const labels: Record<string, string> = {}
  const annotations: Record<string, string> = {}
  const config = { name: '', createTime: undefined as number | undefined, version: '', bodyType: '' }
  let body = new Uint8Array()
  const metadata = (no: number, field: BinaryReader): boolean => {
    if (no === 1) config.name = field.string()
    else if (no === 2)
      readFields(field.bytes(), (part, value) => {
        if (part === 1) config.createTime = Number(value.int64())
        return part === 1
      })
    else if (no === 3) config.version = field.string()
    else if (no === 4) readMap(labels, field, '', readText)
    else if (no === 5) readMap(annotations, field, '', readText)
    else return false
    return true
  }
  const any = (no: number, field: BinaryReader): boolean => {
    if (no === 1) config.bodyType = field.string()
    else if (no === 2) body = new Uint8Array(field.bytes())
    else return false
    return true
  }
  readFields(resource.body, (no, reader) => {
    if (no !== 1 && no !== 2) return false
    readFields(reader.bytes(), no === 1 ? metadata : any)
    return true
  })
  return { ...config, labels, annotations, body }
}
