import type { Credential } from '../identity/credential.ts'
import type { TrustBundles } from '../identity/trust-bundle.ts'
import type { Hop } from '../model/explain.ts'
import { disagreement } from '../model/export-of.ts'
import { requestJson } from './admin-request.ts'
import { probeGateway } from './explain-probe.ts'

/** Who is asked, and as whom the network is tried. */
export interface WalkInput {
  readonly client: string
  readonly host: string
  readonly port: number
  readonly clientAdmin: string
  /** `cluster` where it is known; else the address is its name. */
  readonly servings: readonly { readonly cluster: string | undefined; readonly admin: string }[]
  readonly credential: Credential
  readonly bundles: TrustBundles
}

export interface PlacedHop extends Hop {
  /** The cluster that says so, or `here` for what this command tried itself. */
  readonly where: string
}

/** The way to one serving cluster (or within the client's own). */
export interface WalkedPath {
  readonly serving: string
  readonly ok: boolean
  readonly hops: readonly PlacedHop[]
  /** The first hop that does not hold. */
  readonly broken: PlacedHop | null
  readonly disagreement: string | null
}

interface ServingAnswer {
  /** The cluster that answered, where it says so. */
  readonly cluster: string | undefined
  readonly hops: readonly Hop[]
  readonly gateway:
    | {
        readonly addresses: readonly { readonly address: string; readonly port: number }[]
        readonly spiffeIds: readonly string[]
      }
    | undefined
  readonly sni: string
}

/** Walks a call hop by hop, one path for each cluster that may serve it. The whole works when one path does. */
export async function walk(input: WalkInput): Promise<readonly WalkedPath[]> {
  const local = await askClient(input, undefined)
  if (local.length > 0 && local.every((hop) => hop.ok) && local.some((hop) => hop.hop === 'backend')) {
    return [finish(input.client, local, null)]
  }
  const answers = await Promise.all(
    input.servings.map(async (serving) => ({ serving, answer: await askServing(input, serving.admin) })),
  )
  // Clusters that do not have the service at all say nothing about it, unless none has it.
  const having = answers.filter(({ answer }) => answer.hops[0]?.code !== 'NoService')
  const paths = await Promise.all(
    (having.length > 0 ? having : answers).map(({ serving, answer }) => walkTo(input, serving, answer)),
  )
  return paths.length > 0 ? paths : [finish(input.client, local, null)]
}

async function walkTo(
  input: WalkInput,
  asked: WalkInput['servings'][number],
  answer: ServingAnswer,
): Promise<WalkedPath> {
  const cluster = asked.cluster ?? answer.cluster
  const serving = cluster ?? asked.admin
  const at = (where: string, hops: readonly Hop[]): PlacedHop[] => hops.map((hop) => ({ ...hop, where }))
  const client = await askClient(input, cluster)
  const decided = at(
    serving,
    answer.hops.filter((hop) => hop.hop !== 'backend'),
  )
  let backend = at(
    serving,
    answer.hops.filter((hop) => hop.hop === 'backend'),
  )
  const tried: PlacedHop[] = []
  const [first] = answer.gateway?.addresses ?? []
  if (answer.gateway !== undefined && first !== undefined) {
    const { addresses, spiffeIds } = answer.gateway
    const results = await Promise.all(
      addresses.map((target) =>
        probeGateway({ ...target, sni: answer.sni, expectedIds: spiffeIds }, input.credential, input.bundles),
      ),
    )
    tried.push(
      ...at(
        'here',
        results.flatMap((result) => result.hops),
      ),
    )
    if (results.some((result) => result.closedAfterHandshake) && backend.every((hop) => hop.ok))
      backend = at('here', [closedHop(serving)])
  }
  const [theirs, ours] = [
    answer.hops.find((hop) => hop.hop === 'reachable'),
    client.find((hop) => hop.hop === 'reachable'),
  ]
  const says = (hop: Hop | undefined) =>
    hop === undefined ? undefined : { allowed: hop.ok, reason: hop.detail }
  const [theirDecision, ourDecision] = [says(theirs), says(ours)]
  const differ = theirDecision === undefined ? undefined : disagreement(theirDecision, ourDecision)
  return finish(serving, [...decided, ...client, ...tried, ...backend], differ ?? null)
}

function closedHop(serving: string): Hop {
  return {
    hop: 'backend',
    ok: false,
    code: 'ClosedByGateway',
    detail: 'the gateway ended the connection just after the handshake',
    fix: `the access log of the gateway in ${serving} has the reason: the caller's certificate, policy, or no connection to the backend`,
  }
}

function finish(serving: string, hops: readonly PlacedHop[], differ: string | null): WalkedPath {
  const broken = hops.find((hop) => !hop.ok) ?? null
  return { serving, ok: broken === null, hops, broken, disagreement: differ }
}

async function askClient(
  { client, clientAdmin, host, port }: WalkInput,
  to: string | undefined,
): Promise<PlacedHop[]> {
  const query = new URLSearchParams({ host, port: String(port), ...(to === undefined ? {} : { to }) })
  const reply = await requestJson(clientAdmin, `/explain?${query}`)
  const hops = reply.ok ? readHops(reply.value) : [silent('entry', client, reply.error)]
  return hops.map((hop) => ({ ...hop, where: client }))
}

async function askServing({ client, host, port }: WalkInput, admin: string): Promise<ServingAnswer> {
  const reply = await requestJson(
    admin,
    `/explain?${new URLSearchParams({ from: client, host, port: String(port) })}`,
  )
  if (!reply.ok)
    return {
      hops: [silent('exposed', 'the serving cluster', reply.error)],
      gateway: undefined,
      sni: '',
      cluster: undefined,
    }
  const { gateway, sni, cluster } = (reply.value ?? {}) as {
    cluster?: string
    gateway?: Partial<NonNullable<ServingAnswer['gateway']>> | null
    sni?: string | null
  }
  const reached =
    gateway == null ? undefined : { addresses: gateway.addresses ?? [], spiffeIds: gateway.spiffeIds ?? [] }
  return { hops: readHops(reply.value), gateway: reached, sni: sni ?? '', cluster }
}

function silent(hop: Hop['hop'], cluster: string, error: string): Hop {
  return {
    hop,
    ok: false,
    code: 'NoAnswer',
    detail: `discovery of ${cluster} cannot say: ${error}`,
    fix: 'start isthmus discovery there, or its --admin address',
  }
}

function readHops(reply: unknown): Hop[] {
  const { hops } = (reply ?? {}) as { hops?: unknown }
  return Array.isArray(hops) ? (hops as Hop[]) : []
}
