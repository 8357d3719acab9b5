// The discovery envelopes in the form the rest of the code uses, whatever the variant. Source:
// envoy/service/discovery/v3/discovery.proto.
import type { NodeInfo, XdsResource } from './types.ts'

/** State of the world or incremental. */
export type Variant = 'sotw' | 'delta'

/** `DiscoveryRequest` and `DeltaDiscoveryRequest` in one. */
export interface XdsRequest {
  readonly typeUrl: string
  /** Guaranteed on the first request of a stream only. */
  readonly node: NodeInfo | undefined
  /** SotW: the version the client runs on. Empty in Delta. */
  readonly versionInfo: string
  /** SotW: everything that is wanted. Delta: what is wanted from now on. */
  readonly names: readonly string[]
  /** Delta: what is not wanted any more. */
  readonly unsubscribe: readonly string[]
  /** Delta, first request of a type: what the client still has, name to version. */
  readonly initialVersions: ReadonlyMap<string, string>
  /** The response that is acknowledged or refused; empty on a spontaneous request. */
  readonly responseNonce: string
  /** Why the response was refused; undefined in an ACK. */
  readonly errorDetail: string | undefined
}

/** What a `DiscoveryResponse` or `DeltaDiscoveryResponse` says, whoever receives it. */
export interface Content {
  readonly typeUrl: string
  /** `version_info`, or `system_version_info` (debugging only) in Delta. */
  readonly version: string
  readonly resources: readonly XdsResource[]
  /** Delta only. */
  readonly removed: readonly string[]
  /** Asked for and not there (`resource_errors`). Ours is sent in SotW only, and only to clients that read it. */
  readonly notFound?: readonly string[]
  /** Kept alive: sent without their bodies. */
  readonly heartbeats?: readonly XdsResource[]
  /** Resources go with the time after which they end, where they have one. */
  readonly ttl?: boolean
}

/** A response as the server sends it to one stream. */
export interface Push extends Content {
  readonly nonce: string
  /** The state of the type that it was taken from: whoever pushes the same content from the same state shares one encoding. */
  readonly view: ReadonlyMap<string, XdsResource>
}

/** A response as the client reads it. In SotW the resources' versions are hashes of their bodies. */
export interface XdsResponse extends Content {
  readonly nonce: string
  /** `control_plane.identifier`. */
  readonly identifier: string
}
