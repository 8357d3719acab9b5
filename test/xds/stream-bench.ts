import { AdsStream } from '../../src/xds/ads-stream.ts'
import type { Push, Variant, XdsRequest } from '../../src/xds/messages.ts'
import { SnapshotCache } from '../../src/xds/snapshot-cache.ts'
import { TYPE, type XdsResource } from '../../src/xds/types.ts'
import { byName, request } from './fixtures.ts'

const { cluster: CDS, endpoints: EDS, listener: LDS, secret: SDS, route: RDS, nameTable: NDS } = TYPE

/** A stream on a view, with a client that answers when told to. */
export class Bench {
  readonly cache = new SnapshotCache()
  readonly stream: AdsStream
  readonly log: string[] = []
  readonly last = new Map<string, Push>()
  nowMs = 0

  constructor(variant: Variant = 'delta', budget = 1_000_000) {
    const view = (typeUrl: string) => this.cache.current().get(typeUrl) ?? new Map()
    this.stream = new AdsStream({ variant, view, budget, ackTimeoutMs: 5_000 })
    this.cache.watch((changes) => {
      for (const [typeUrl, names] of changes) this.stream.changed(typeUrl, names)
    })
  }

  set(typeUrl: string, ...resources: XdsResource[]): this {
    this.cache.setType(typeUrl, byName(...resources))
    return this
  }

  ask(typeUrl: string, fields: Partial<XdsRequest> = {}) {
    return this.stream.request(request({ typeUrl, ...fields }), this.nowMs)
  }

  /** What goes out now, without any answer: `CDS a,b -c`. */
  pull(): string[] {
    const out: string[] = []
    for (;;) {
      const push = this.stream.pull(this.nowMs)
      if (push === undefined) return out
      this.last.set(push.typeUrl, push)
      const short = Object.entries({ CDS, EDS, LDS, SDS, RDS, NDS }).find(
        ([, url]) => url === push.typeUrl,
      )?.[0]
      const removed = push.removed.map((name) => ` -${name}`).join('')
      out.push(`${short ?? push.typeUrl} ${push.resources.map((one) => one.name).join(',')}${removed}`)
    }
  }

  ack(typeUrl: string, fields: Partial<XdsRequest> = {}) {
    return this.ask(typeUrl, { responseNonce: this.last.get(typeUrl)?.nonce ?? '', ...fields })
  }

  nack(typeUrl: string, errorDetail: string, fields: Partial<XdsRequest> = {}) {
    return this.ack(typeUrl, { errorDetail, ...fields })
  }

  /** Pulls and acknowledges (Delta) until nothing comes. */
  settle(): string[] {
    const all: string[] = []
    for (let out = this.pull(); out.length > 0; out = this.pull()) {
      all.push(...out)
      for (const typeUrl of [...this.last.keys()]) this.ack(typeUrl)
      this.last.clear()
    }
    return all
  }
}
