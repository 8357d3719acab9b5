// Which filter chains and rbac filters are taken, and what is said of the others.
import { create, type MessageInitShape } from '@bufbuild/protobuf'
import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire'
import t from 'tap'
import { acceptListener } from '../../src/resources/accept-listener.ts'
import {
  FilterChainMatchSchema,
  FilterChainSchema,
} from '../../src/xds/gen/envoy/config/listener/v3/listener_components_pb.js'
import {
  PermissionSchema,
  PrincipalSchema,
  RBAC_Action,
} from '../../src/xds/gen/envoy/config/rbac/v3/rbac_pb.js'
import { RBACSchema } from '../../src/xds/gen/envoy/extensions/filters/network/rbac/v3/rbac_pb.js'
import {
  allow,
  filterOf,
  listenerOf,
  passthroughChain,
  rbacFilter,
  TLS_INSPECTOR,
  tcpProxy,
  terminateChain,
  uriPrincipal,
} from '../proxy/support.ts'

type Chain = MessageInitShape<typeof FilterChainSchema>

const serverNames = ['reviews.example']
const matching = (chain: Chain, match: MessageInitShape<typeof FilterChainMatchSchema>): Chain => ({
  ...create(FilterChainSchema, chain),
  filterChainMatch: create(FilterChainMatchSchema, match),
})
const accept = (...chains: Chain[]) =>
  acceptListener(listenerOf(chains, { listenerFilters: [TLS_INSPECTOR] }))
const refusal = (...chains: Chain[]) => {
  const result = accept(...chains)
  return result.ok ? 'accepted' : `${result.error.field}: ${result.error.message}`
}

t.test('passthrough beside termination: what asks for mesh TLS', async (t) => {
  t.match(accept(terminateChain(), passthroughChain({ serverNames: ['Reviews.Example'] })), {
    ok: true,
    value: {
      chains: [
        { mode: 'terminate' },
        {
          mode: 'passthrough',
          tls: undefined,
          sniCluster: true,
          match: { serverNames: ['reviews.example'], transportProtocol: 'tls' },
        },
      ],
    },
  })
  t.match(accept(passthroughChain({ serverNames, cluster: 'reviews' })), {
    ok: true,
    value: { chains: [{ sniCluster: false, upstream: 'reviews' }] },
  })
  const match = 'filter_chains[0].filter_chain_match'
  const cases: [Chain, RegExp][] = [
    [passthroughChain({ serverNames, protocols: [] }), /application_protocols: .*only mesh TLS/],
    [
      passthroughChain({ serverNames, protocols: ['istio', 'h2'] }),
      /application_protocols\[1\]: .*found "h2"/,
    ],
    [passthroughChain({ serverNames: ['*.example'] }), /server_names\[0\]: wildcards/],
    [
      matching(passthroughChain({ serverNames }), { transportProtocol: 'raw_buffer', serverNames }),
      /transport_protocol: expected "tls"/,
    ],
    [matching(terminateChain(), { transportProtocol: 'quic' }), /transport_protocol: expected "tls" or/],
  ]
  for (const [chain, reason] of cases) {
    const found = refusal(chain)
    t.match(found, reason)
    t.ok(found.startsWith(match), found)
  }
  const deaf = acceptListener(listenerOf([passthroughChain({ serverNames })]))
  t.match(deaf, { ok: false, error: { field: 'listener_filters', message: /tls_inspector/ } })
})

t.test('no connection has two chains', async (t) => {
  const mesh = (name: string, over: object = {}) => passthroughChain({ serverNames, name, ...over })
  t.match(
    refusal(mesh('a'), mesh('b')),
    /chains\[1\].filter_chain_match: a second chain matches reviews.example with/,
  )
  t.equal(refusal(mesh('a', { protocols: ['istio'] }), mesh('b', { protocols: ['istio-h2'] })), 'accepted')
  t.equal(refusal({ ...terminateChain(), name: 'x' }, mesh('a')), 'accepted')
  t.match(refusal(terminateChain(), { ...terminateChain(), name: 'x' }), /matches every server name/)
  const plain: Chain = { filters: [tcpProxy({ cluster: 'x' })] }
  t.match(refusal(plain, matching(plain, { transportProtocol: 'raw_buffer' })), /one chain alone/)
  t.match(refusal(terminateChain(), plain), /TLS and plain TCP|one chain alone/)
})

const any = { rule: { case: 'any' as const, value: true } }
const rulesFor = (permission: object, principal: object, action = RBAC_Action.ALLOW) => ({
  action,
  policies: { p: { permissions: [permission as never], principals: [principal as never] } },
})
const anybody = create(PrincipalSchema, { identifier: { case: 'any', value: true } })
const cidr = { addressPrefix: '10.0.0.0', prefixLen: 8 }

t.test('rbac: every matcher that is understood', async (t) => {
  const principal = (identifier: object) => create(PrincipalSchema, { identifier } as never)
  const permission = (rule: object) => create(PermissionSchema, { rule } as never)
  const read = (permission: object, principal: object) => {
    const accepted = accept(terminateChain({ rbac: rbacFilter({ rules: rulesFor(permission, principal) }) }))
    if (!accepted.ok) throw new Error(JSON.stringify(accepted.error))
    const policy = accepted.value.chains[0]?.rbac[0]?.rules?.policies[0]
    return [policy?.permissions[0], policy?.principals[0]]
  }
  const range = { address: '10.0.0.0', prefixLength: 8 }
  for (const [name, direct] of [
    ['directRemoteIp', true],
    ['remoteIp', false],
    ['sourceIp', false],
  ] as const) {
    t.strictSame(read(any, principal({ case: name, value: cidr }))[1], { kind: 'remoteIp', direct, range })
  }
  t.strictSame(read(permission({ case: 'destinationIp', value: cidr }), anybody)[0], {
    kind: 'destinationIp',
    range,
  })
  t.strictSame(read(permission({ case: 'destinationPort', value: 15443 }), anybody)[0], {
    kind: 'port',
    from: 15443,
    to: 15443,
  })
  t.strictSame(
    read(permission({ case: 'destinationPortRange', value: { start: 1, end: 10 } }), anybody)[0],
    { kind: 'port', from: 1, to: 9 },
    'the end is not in it',
  )
})

t.test('rbac: shadow rules and names are kept apart; what is not understood is refused', async (t) => {
  const shadow = rbacFilter({ shadowRules: rulesFor(any, anybody), shadowRulesStatPrefix: 's' }, 'watch')
  t.match(accept(terminateChain({ rbac: [allow({ p: [anybody] }, 'isthmus.reachability'), shadow] })), {
    ok: true,
    value: {
      chains: [
        {
          rbac: [
            { name: 'isthmus.reachability', rules: { action: 'ALLOW' }, shadowRules: undefined },
            { name: 'watch', rules: undefined, shadowRules: { action: 'ALLOW' } },
          ],
        },
      ],
    },
  })
  const refused = (config: MessageInitShape<typeof RBACSchema>) =>
    refusal(terminateChain({ rbac: rbacFilter(config) }))
  const metadata = { rule: { case: 'metadata', value: { filter: 'x' } } }
  t.match(refused({}), /rules: expected rules or shadow_rules/)
  t.match(
    refused({ rules: rulesFor(any, anybody, RBAC_Action.LOG) }),
    /rules.action: expected ALLOW or DENY, found LOG/,
  )
  t.match(refused({ rules: rulesFor(metadata, anybody) }), /permissions\[0\].metadata: not supported/)
  t.match(
    refused({ shadowRules: rulesFor(metadata, anybody) }),
    /shadow_rules.policies\["p"\].permissions\[0\].metadata/,
  )
  t.match(
    refused({
      rules: rulesFor(any, { identifier: { case: 'sourceIp', value: { addressPrefix: '10.0.0.x' } } }),
    }),
    /address_prefix: expected an IP address/,
  )
  t.match(
    refused({
      rules: rulesFor(any, { identifier: { case: 'sourceIp', value: { ...cidr, prefixLen: 33 } } }),
    }),
    /prefix_len: expected at most 32, found 33/,
  )
  const delayed = create(RBACSchema, {
    statPrefix: 'x',
    rules: rulesFor(any, uriPrincipal('prefix', 'spiffe://x/')),
  })
  const data = new BinaryWriter().bytes(new Uint8Array()).finish()
  delayed.$unknown = [{ no: 8, wireType: WireType.LengthDelimited, data }]
  t.match(refusal(terminateChain({ rbac: filterOf(RBACSchema, delayed) })), /field number 8|#8/, 'delay_deny')
})
