import type { Metrics } from '../admin/metrics.ts'
import type { Discovery } from '../discovery/discovery.ts'
import type { PeerLink } from '../discovery/peer-link.ts'

/** What discovery counts of its peers, and when the certificates between clusters end. */
export function peerMetrics(metrics: Metrics, discovery: Discovery): void {
  const gauge = (name: string, help: string, value: (link: PeerLink, peer: string) => number): void =>
    metrics.gauge({
      name: `isthmus_discovery_peer_${name}`,
      help,
      labels: ['peer'],
      collect: () =>
        [...discovery.federation.links()].map(([peer, link]) => ({
          value: value(link, peer),
          labels: { peer },
        })),
    })
  gauge('connected', '1 while the peer can be heard.', (link) => Number(link.connected))
  gauge('entries', 'Hosts of a peer that are in force.', (link) => link.offers.size)
  gauge('stale', '1 while exports of a peer are in force without its word.', (link) => Number(link.stale))
  gauge(
    'frozen_entries',
    'Exports that are kept although they went missing at once, without a word that they were deleted.',
    (link) => link.offers.frozen,
  )
  metrics.counter({
    name: 'isthmus_discovery_peer_refusals_total',
    help: 'What a peer sent that was refused, by reason.',
    labels: ['peer', 'reason'],
    collect: () =>
      [...discovery.federation.links()].flatMap(([peer, link]) =>
        [...link.offers.refusals].map(([reason, value]) => ({ value, labels: { peer, reason } })),
      ),
  })
  metrics.counter({
    name: 'isthmus_discovery_link_refusals_total',
    help: 'Tokens of clusters that wanted to be linked and were refused, by reason.',
    labels: ['reason'],
    collect: () =>
      [...discovery.federation.linkRefusals].map(([reason, value]) => ({ value, labels: { reason } })),
  })
  metrics.gauge({
    name: 'isthmus_certificate_expiration_timestamp_seconds',
    help: 'When a certificate ends, in seconds since the epoch: of this cluster and its peers, the whole chain.',
    labels: ['cluster', 'role', 'subject', 'serial', 'in_use'],
    collect: () =>
      discovery.federation.certificates().map(({ cluster, role, subject, serial, inUse, notAfterMs }) => ({
        value: notAfterMs / 1000,
        labels: { cluster, role, subject, serial, in_use: String(inUse) },
      })),
  })
}
