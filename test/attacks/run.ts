// Runs the catalogue against one target, a row at a time.
import type { Target } from '../targets/target.ts'
import type { Attack } from './catalogue.ts'
import { AttackContext, outcomeOf, type Scene } from './context.ts'

/** No input may take longer to come to its end: the slowest deadline of a target, and as much again. */
const PATIENCE_MS = 20_000

export interface AttackResult {
  readonly attack: Attack
  readonly outcome: string
  readonly expected: string
  /** Backend connects and bytes by this input. */
  readonly connects: number
  readonly bytes: number
  readonly passed: boolean
}

/** Whether the canary may hear of an input: only of those that come from a client that may call. */
const mayReach = ({ authorised = false }: Attack, expected: string): boolean =>
  authorised || expected === 'routed'

export async function runCatalogue(
  target: Target,
  scene: Scene,
  attacks: readonly Attack[],
): Promise<AttackResult[]> {
  const results: AttackResult[] = []
  for (const attack of attacks) results.push(await runOne(target, scene, attack))
  return results
}

async function runOne(target: Target, scene: Scene, attack: Attack): Promise<AttackResult> {
  const { canary } = scene
  const context = new AttackContext(target, scene)
  const [connects, bytes] = [canary.connects, canary.bytes]
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<string>((resolve) => {
    timer = setTimeout(resolve, PATIENCE_MS, 'nothing')
  })
  const result = await Promise.race([attack.run(context), late])
  clearTimeout(timer)
  context.end()
  const raw = typeof result === 'string' ? result : outcomeOf(result)
  // Envoy resets where it closes with bytes of the client unread, which is a matter of luck.
  const outcome = target.kind === 'envoy' && (raw === 'closed' || raw === 'reset') ? 'cut' : raw
  const expected = target.kind === 'envoy' ? attack.envoy : attack.ours
  const reached = { connects: canary.connects - connects, bytes: canary.bytes - bytes }
  const connectMayBe =
    mayReach(attack, expected) || (target.kind === 'envoy' && attack.envoyConnects === true)
  const leaked = (!connectMayBe && reached.connects > 0) || (!mayReach(attack, expected) && reached.bytes > 0)
  return { attack, outcome, expected, ...reached, passed: outcome === expected && !leaked }
}
