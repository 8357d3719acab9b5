// Where our engine and Envoy differ, on purpose: the frozen list that docs/ENVOY-SUBSET.md shows. Every other difference fails the
// differential test, and so does one of these that is no more.

export interface Difference {
  /** The case that shows both sides. */
  readonly id: string
  /** Outcomes: what the client saw | what the backend saw | how it ended. Several where Envoy leaves it to chance. */
  readonly envoy: readonly string[]
  readonly ours: string
  readonly why: string
}

const REFUSED_NAME = 'no handshake, alert 112, FIN | no connect | refused'
const ANSWERED_NAME = 'nothing, close_notify, closed | no connect | no upstream'
const UNTOLD = "Envoy's log of the listener names no reason; ours does"
const CUT = '"ping", RST | who comes after it is refused | '
const GOES_ON = '"pingstill", still open | who comes after it is refused | '

export const DIFFERENCES: readonly Difference[] = [
  {
    id: 'upstreams/unknown-name',
    envoy: [ANSWERED_NAME],
    ours: REFUSED_NAME,
    why: 'A name that leads nowhere costs no crypto, and does not tell an unknown name from a hidden one',
  },
  {
    id: 'upstreams/no-name',
    envoy: [ANSWERED_NAME],
    ours: REFUSED_NAME,
    why: 'No name is a name that leads nowhere; there is no default route',
  },
  {
    id: 'upstreams/failover',
    envoy: [
      '"ping", close_notify, closed | echo | well',
      'nothing, close_notify, closed | echo | connect failure',
    ],
    ours: '"ping", close_notify, closed | echo | well',
    why: 'A retry takes an endpoint that was not tried yet; in Envoy it may be the same one again',
  },
  {
    id: 'upstreams/failover-blackhole',
    envoy: [
      '"ping", close_notify, closed | echo | well',
      'nothing, close_notify, closed | echo | connect failure',
    ],
    ours: '"ping", close_notify, closed | echo | well',
    why: 'A retry takes an endpoint that was not tried yet; in Envoy it may be the same one again',
  },
  {
    id: 'upstreams/priorities-refused',
    envoy: ['nothing, close_notify, closed | echo | connect failure'],
    ours: '"ping", close_notify, closed | echo | well',
    why: 'When every endpoint of a priority has been tried, a retry goes on to the next priority',
  },
  {
    id: 'limits/idle-timeout',
    envoy: ['close_notify FIN | "ping", FIN | well'],
    ours: 'close_notify FIN | "ping", FIN | idle',
    why: UNTOLD,
  },
  {
    id: 'limits/longest-duration',
    envoy: ['close_notify FIN | "ping", FIN | longest duration'],
    ours: ' RST | "ping", RST | longest duration',
    why: 'A stream that is cut must not be taken for a whole one',
  },
  {
    id: 'policy/denied-client-first',
    envoy: ['refused | 1 connects, 0 bytes | refused'],
    ours: 'refused | 0 connects, 0 bytes | refused',
    why: 'Policy decides after the handshake and before any connect; in Envoy at the first byte',
  },
  {
    id: 'policy/denied-server-first',
    envoy: ['"banner\\n", close_notify, closed | 1 connects, 0 bytes | refused'],
    ours: 'refused | 0 connects, 0 bytes | refused',
    why: 'Who is denied hears nothing of a server that speaks first',
  },
  {
    id: 'policy/mtls_authenticated-is-one-id',
    envoy: ['"ping", close_notify, closed | 1 connects, 4 bytes | well'],
    ours: 'refused | 0 connects, 0 bytes | refused',
    why: 'An SVID has exactly one URI SAN; with two, Envoy takes the bundle by the first and the policy by any',
  },
  {
    id: 'policy/revoked',
    envoy: ['"ping", close_notify, closed | 1 connects, 4 bytes | well'],
    ours: 'refused | 0 connects, 0 bytes | refused',
    why: "`validation_context.crl` counts beside the SPIFFE validator; Envoy's does not look at it",
  },
  {
    id: 'changes/policy-during-a-transfer',
    envoy: [GOES_ON],
    ours: CUT,
    why: 'Open connections are judged again at every change',
  },
  {
    id: 'changes/trust-during-a-transfer',
    envoy: [GOES_ON],
    ours: CUT,
    why: 'Open connections are judged again at every change',
  },
  {
    id: 'handshakes/how-a-refused-certificate-is-told',
    envoy: ['nothing, alert 46, FIN | no connect | refused'],
    ours: 'nothing, FIN | no connect | refused',
    why: 'Node and Bun tell of a refused certificate after their handshake, where no alert can be sent any more',
  },
  {
    id: 'handshakes/too-slow',
    envoy: ['cut | no connect | well'],
    ours: 'cut | no connect | refused',
    why: UNTOLD,
  },
  {
    id: 'alpn/unheard-of',
    envoy: ['selected none |  | well'],
    ours: 'selected unheard-of |  | well',
    why: "Where nothing is in common, the client's first is selected: Node can only select or end the handshake",
  },
  {
    id: 'alpn/istio-peer-exchange',
    envoy: ['selected none |  | well'],
    ours: 'no handshake, alert 120, FIN |  | refused',
    why: 'Whoever insists on a metadata exchange, which we do not speak, is not left to wait for it',
  },
]
