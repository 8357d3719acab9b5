import { freePort } from './free-address.ts'
import type { DiscoveryPlan, MachineConfig, SidecarPlan } from './machine-config.ts'
import { BRIDGE_PREFIX, NAMESERVER } from './netns.ts'

export interface PlanOptions {
  /** 1, 2, 3: the cluster's number. */
  readonly index: number
  /** `127.X`, all ours. */
  readonly loopback: string
  readonly netns: boolean
  readonly sidecar: boolean
  readonly certs: (of: 'discovery' | 'sleep') => string
}

export interface AddressPlan {
  readonly plan: Pick<
    MachineConfig,
    'podPrefix' | 'gatewayPrefix' | 'nodeAddress' | 'discovery' | 'sidecar' | 'podDns'
  >
  /** Which ports were taken, and what is used instead. */
  readonly notices: readonly string[]
}

/**
 * Addresses of one cluster: 127.X.N.1 discovery, .2 sidecar, .10 and up pods, .254 the node, so that every process has its
 * canonical ports on an address of its own. Sidecar listeners live in 127.X.(128+16N).0/20. In namespaces the parts that
 * other clusters must reach are on the bridge (10.77.N.*) and DNS is where resolv.conf points.
 */
export async function planAddresses({
  index,
  loopback,
  netns,
  sidecar,
  certs,
}: PlanOptions): Promise<AddressPlan> {
  const notices: string[] = []
  const podPrefix = `${loopback}.${index}`
  const gatewayPrefix = netns ? `${BRIDGE_PREFIX}.${index}` : podPrefix
  const at = async (host: string, preferred: number, udp = false) => {
    // Inside its own network namespace nothing is taken, and nothing of it can be tried from here.
    const port = netns ? preferred : await freePort(host, preferred, udp)
    if (port !== preferred) notices.push(`port ${preferred} of ${host} is taken, using ${port}`)
    return `${host}:${port}`
  }
  const own = `${podPrefix}.1`
  const discovery: DiscoveryPlan = {
    ads: await at(`${gatewayPrefix}.1`, 15_012),
    adsPlain: await at(own, 15_010),
    // explain asks both ends, from either cluster.
    admin: await at(`${gatewayPrefix}.1`, 15_000),
    health: await at(own, 15_021),
    metrics: await at(own, 15_020),
    certs: certs('discovery'),
  }
  const beside = `${podPrefix}.2`
  const plan: SidecarPlan = {
    address: beside,
    dns: netns ? `${NAMESERVER}:53` : await at(beside, 15_053, true),
    // A namespace has no way out, and its resolv.conf names the sidecar itself: nobody to forward to.
    dnsUpstream: netns ? '127.0.0.1:9' : undefined,
    socks: await at(beside, 15_080),
    connect: await at(beside, 15_081),
    admin: await at(beside, 15_000),
    health: await at(beside, 15_021),
    metrics: await at(beside, 15_020),
    certs: certs('sleep'),
    bind: `${loopback}.${128 + 16 * index}.0/20`,
  }
  return {
    notices,
    plan: {
      podPrefix,
      gatewayPrefix,
      nodeAddress: `${podPrefix}.254`,
      discovery,
      sidecar: sidecar ? plan : undefined,
      podDns: netns || !sidecar ? undefined : plan.dns,
    },
  }
}
