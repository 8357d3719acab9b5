// What discovery tells the gateway of the faults' world.
import { create } from '@bufbuild/protobuf'
import {
  PermissionSchema,
  PolicySchema,
  RBAC_Action,
  RBACSchema as RulesSchema,
} from '../../src/xds/gen/envoy/config/rbac/v3/rbac_pb.js'
import { RBACSchema } from '../../src/xds/gen/envoy/extensions/filters/network/rbac/v3/rbac_pb.js'
import type { XdsResource } from '../../src/xds/types.ts'
import { filterOf, gatewayListener, uriPrincipal } from '../proxy/support.ts'

const nameOf = (service: string): string => `outbound_.9080_._.${service}.bookinfo.svc.cluster.local`
/** Two endpoints. */
export const PRODUCTPAGE = nameOf('productpage')
/** One endpoint, behind a wire of ours. */
export const DETAILS = nameOf('details')
/** Exposed, but the policy lets nobody call it. */
export const RATINGS = nameOf('ratings')
export const HIDDEN = nameOf('hidden')
/** Who may call productpage and details: SPIFFE ids that begin so. */
export const CALLERS: readonly string[] = ['spiffe://cluster-1.example/ns/bookinfo/']
/** Connections that carry nothing for so long are ended, seconds. */
export const IDLE_S = 5

export function listener(host: string, port: number, callers: readonly string[]): XdsResource {
  const permissions = [PRODUCTPAGE, DETAILS].map((exact) =>
    create(PermissionSchema, {
      rule: { case: 'requestedServerName', value: { matchPattern: { case: 'exact', value: exact } } },
    }),
  )
  const principals = callers.map((prefix) => uriPrincipal('prefix', prefix))
  const policies =
    principals.length === 0 ? {} : { callers: create(PolicySchema, { permissions, principals }) }
  const rbac = filterOf(
    RBACSchema,
    create(RBACSchema, {
      statPrefix: 'gw.',
      rules: create(RulesSchema, { action: RBAC_Action.ALLOW, policies }),
    }),
  )
  return gatewayListener({ host, port, rbac, idleTimeoutS: IDLE_S, maxConnectAttempts: 3 })
}
