import type { AccessLogEntry } from '../../src/proxy/access-log.ts'

/** Of a connection that went well. */
export const ENTRY: AccessLogEntry = {
  time: '2026-01-02T03:04:05.678Z',
  listener: 'eastwest',
  upstream: 'outbound_.9080_._.productpage.bookinfo.svc.cluster.local',
  host: 'productpage.bookinfo.svc.cluster.local',
  port: 9080,
  subset: '',
  sni: 'outbound_.9080_._.productpage.bookinfo.svc.cluster.local',
  remoteAddress: '10.0.0.1:50000',
  directRemoteAddress: '',
  peerId: 'spiffe://cluster-1.example/ns/bookinfo/sa/sleep',
  peerTrustDomain: 'cluster-1.example',
  caller: 'verified',
  alpn: 'istio',
  tlsVersion: 'TLSv1.3',
  rule: 'everyone',
  shadowRule: '',
  endpoint: '10.0.0.2:9080',
  bytesIn: 5,
  bytesOut: 7,
  durationMs: 12,
  connectMs: 1,
  handshakeMs: 3,
  flag: '-',
  reason: 'both sides ended',
}
