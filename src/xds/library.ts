// The package's export `isthmus/xds`, described in README.md beside this file. Nothing in here imports it: it is the door for others.
// biome-ignore lint/performance/noBarrelFile: a package needs one door, and this one is for others only
export { Backoff, type BackoffOptions } from '../lib/backoff.ts'
export type { Problem, Result } from '../lib/result.ts'
export type { ClientState } from './client.ts'
export type { ClientTls, Keepalive } from './client-channel.ts'
export {
  XdsConnection,
  type XdsConnectionOptions,
  type XdsCredential,
  type XdsServerTarget,
} from './connection.ts'
export { MutualTls, type MutualTlsOptions } from './mutual-tls.ts'
export {
  CLUSTER,
  ENDPOINTS,
  LISTENER,
  messageType,
  type ResourceType,
  ROUTE,
  rawType,
  SECRET,
} from './resource-types.ts'
export { SnapshotFile, type SnapshotFileOptions } from './snapshot-file.ts'
export type { NodeInfo, XdsResource } from './types.ts'
export type { OnChange, Wanted, Watch, XdsChange } from './watch.ts'
