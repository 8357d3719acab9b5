// What a case of the differential test works with, and how what happened is put into words that are compared.
import type { ConnectionOptions } from 'node:tls'
import type { Recorded, Recorder } from '../targets/recorder.ts'
import type { EndedConnection, Target, TargetKind } from '../targets/target.ts'
import { type Seen, type WireOptions, WireTls } from '../targets/wire.ts'
import { clientOptions, type Service, type World } from './world.ts'

/** What came of a case: what the client saw, what the backend saw, and what the data plane says of it. */
export interface Outcome {
  readonly client: string
  readonly backend: string
  readonly ending: string
}

export class DifferentialContext {
  readonly target: Target
  readonly world: World
  readonly #clients: WireTls[] = []
  readonly #logged: number

  constructor(target: Target, world: World) {
    this.target = target
    this.world = world
    this.#logged = target.log.length
  }

  client(
    service: Service | string,
    options: ConnectionOptions & { readonly listener?: string; readonly wire?: WireOptions } = {},
  ): WireTls {
    const { listener = 'edge', wire, ...tls } = options
    const client = new WireTls(this.target.port(listener), clientOptions(this.world.pool, service, tls), wire)
    this.#clients.push(client)
    return client
  }

  /** The client says `ping`; the connection that it got at the backend. */
  async reach(client: WireTls, recorder: Recorder): Promise<Recorded> {
    const before = recorder.connects
    client.tls.write('ping')
    await recorder.until(() => recorder.connections.slice(before).some(({ received }) => received >= 4))
    const connection = recorder.connections.at(-1)
    if (connection === undefined) throw new Error('no connection')
    return connection
  }

  /** What the data plane's log says of a client's connection, as a class of endings. */
  async ending(client: WireTls): Promise<string> {
    return endingClass(this.target.kind, await this.target.ended(client.port, this.#logged))
  }

  async outcome(client: WireTls, backend: string): Promise<Outcome> {
    const clientSaw = clientSees(client.seen())
    const { port } = client
    this.leave(client)
    const ended = await this.target.ended(port, this.#logged)
    return { client: clientSaw, backend, ending: endingClass(this.target.kind, ended) }
  }

  /** A client that has nothing more to see goes away. */
  leave(client: WireTls): void {
    client.destroy()
  }

  end(): void {
    for (const client of this.#clients) client.destroy()
  }
}

const shown = (data: Buffer): string =>
  data.length === 0 ? 'nothing' : data.length > 40 ? `${data.length} bytes` : JSON.stringify(data.toString())

export function clientSees({ handshake, data, alerts, end }: Seen): string {
  return [
    handshake ? shown(data) : 'no handshake',
    ...alerts.map((alert) => (/^\d+$/.test(alert) ? `alert ${alert}` : alert)),
    // After close_notify everything has been said: whether Envoy's FIN becomes a RST depends on what it had not read.
    end === 'open' ? 'still open' : alerts.includes('close_notify') ? 'closed' : end.toUpperCase(),
  ].join(', ')
}

export function backendSees(connection: Recorded | undefined): string {
  if (connection === undefined) return 'no connect'
  const { bytes, end } = connection
  return `${shown(bytes)}, ${end === 'open' ? 'still open' : end.toUpperCase()}`
}

const CLASSES: readonly (readonly [kind: 'envoy' | 'ours', pattern: RegExp, name: string])[] = [
  ['ours', /^(TLS_|ID_REFUSED|RBAC)/, 'refused'],
  ['ours', /^(NR|UH) /, 'no upstream'],
  ['ours', /^UF /, 'connect failure'],
  ['ours', /^UO /, 'overflow'],
  ['ours', /^SI /, 'idle'],
  ['ours', /^DT /, 'longest duration'],
  ['ours', /^UC /, 'upstream broke'],
  ['ours', /^DC /, 'client broke'],
  ['ours', /^- /, 'well'],
  ['envoy', /rbac_access_denied/, 'refused'],
  ['envoy', /transport socket timeout|filter_chain_not_found/, 'refused'],
  ['envoy', /idle_timeout/, 'idle'],
  ['envoy', /max_connection_duration|^DT /, 'longest duration'],
  ['envoy', /^\S*UO/, 'overflow'],
  // Without URX a later attempt got through.
  ['envoy', /^\S*URX/, 'connect failure'],
  ['envoy', /^UF /, 'well'],
  ['envoy', /^\S*(UH|NC|NR)\S* /, 'no upstream'],
  ['envoy', /^\S*(UR|UC)\S* /, 'upstream broke'],
  ['envoy', /Connection_reset_by_peer/, 'client broke'],
  ['envoy', /TLS_error/, 'refused'],
  ['envoy', /^\S*(DR|DC)\S* |remote reset|RemoteReset/i, 'client broke'],
  ['envoy', /^- /, 'well'],
]

/** One word for how a connection ended, whosever words it was told in. */
export function endingClass(kind: TargetKind, { flag, detail }: EndedConnection): string {
  const text = `${flag} ${detail}`
  const whose = kind === 'envoy' ? 'envoy' : 'ours'
  return CLASSES.find(([of, pattern]) => of === whose && pattern.test(text))?.[2] ?? text
}
