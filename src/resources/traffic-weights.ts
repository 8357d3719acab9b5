import type { EdsEndpoint } from './endpoints.ts'

/** Sums of weights have to fit into 32 bits, in Envoy and on the wire. */
export const WEIGHT_MAX = 10_000
/** What weights are multiplied by at most, so that parts of them are whole numbers. */
const FACTOR_MAX = 1_000

/** The endpoints of one port that have one share of the traffic. */
export interface Share {
  /** Of what they would get without it; 0: none. */
  readonly percent: number
  /** Several addresses of one gateway: each stands for all that is ready behind it, so each counts for a part of that. */
  readonly sameBehindEach: boolean
  readonly endpoints: readonly EdsEndpoint[]
}

/**
 * Weights such that a cluster's part of the traffic is its ready endpoints times its percentage, however many addresses its gateway has.
 * They stay as they are where nothing needs it.
 */
export function weigh(shares: readonly Share[]): EdsEndpoint[] {
  const counted = shares.filter(({ percent, endpoints }) => percent > 0 && endpoints.length > 0)
  const parts = (share: Share): number => (share.sameBehindEach ? share.endpoints.length : 1)
  const factor = Math.min(FACTOR_MAX, counted.map(parts).reduce(leastCommonMultiple, 1))
  const unit = counted.map(({ percent }) => percent).reduce(greatestCommonDivisor, 0)
  const weighed = counted.flatMap((share) => {
    const by = (factor * share.percent) / unit / parts(share)
    return share.endpoints.map((endpoint) => ({ ...endpoint, weight: endpoint.weight * by }))
  })
  const most = Math.max(1, ...weighed.map(({ weight }) => weight))
  const scale = most > WEIGHT_MAX ? WEIGHT_MAX / most : 1
  return weighed.map((endpoint) => ({
    ...endpoint,
    weight: Math.max(1, Math.round(endpoint.weight * scale)),
  }))
}

function greatestCommonDivisor(a: number, b: number): number {
  return b === 0 ? a : greatestCommonDivisor(b, a % b)
}

function leastCommonMultiple(a: number, b: number): number {
  return (a / greatestCommonDivisor(a, b)) * b
}
