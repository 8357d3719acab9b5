// Inputs that nobody thought of: ClientHellos made by a grammar and then damaged, random server names against a slow model of what is
// exposed, random certificates, garbage inside good connections. None may reach the backend that it is not meant for.
import fc from 'fast-check'
import type { Target } from '../targets/target.ts'
import { AttackContext, BANNER, NAME, outcomeOf, type Scene, SECOND } from './context.ts'
import { type Damage, damaged, type HelloRecipe, helloRecipe, prepared } from './generated-hello.ts'
import { type LeafRecipe, leafRecipe, mintRecipe } from './generated-leaf.ts'
import { cut, helloFor } from './hello.ts'

export interface Generated {
  readonly title: string
  /** Share of the inputs, in parts of a hundred. */
  readonly share: number
  property(target: Target, scene: Scene): fc.IAsyncProperty<unknown[]>
}

/** Runs `input` in a context of its own and sees to it that the canary has heard no more than `connects` of it. */
async function unheard(
  target: Target,
  scene: Scene,
  input: (context: AttackContext) => Promise<void>,
): Promise<void> {
  const context = new AttackContext(target, scene)
  const before = scene.canary.connects
  try {
    await input(context)
  } finally {
    context.end()
  }
  if (scene.canary.connects > before) throw new Error('the backend was connected')
}

function expect(holds: boolean, what: string): void {
  if (!holds) throw new Error(what)
}

const hellos: Generated = {
  title: 'damaged ClientHellos',
  share: 64,
  property: (target, scene) =>
    fc.asyncProperty(helloRecipe([NAME, SECOND]), async (recipe: HelloRecipe) => {
      const bytes = damaged(prepared(recipe), recipe.damage as readonly Damage[])
      await unheard(target, scene, async (context) => {
        // With a FIN at its end no hello is incomplete for long.
        const seen = await context.send(
          cut(bytes, Math.max(recipe.segment, Math.ceil(bytes.length / 40))),
          'edge',
          true,
        )
        const outcome = outcomeOf(seen)
        expect(
          /^(alert (10|20|22|40|42|47|50|51|70|71|80|86|109|110|112|120)|answered|closed|reset)$/.test(
            outcome,
          ),
          `an answer that is none: ${outcome}`,
        )
      })
    }),
}

const LABEL = fc.constantFrom('outbound', 'inbound', 'Outbound', 'outbound_', '')
const PORT = fc.constantFrom('9080', '9081', '09080', '9080 ', '908', '90800', '', '-1', '9O80')
const SUBSET = fc.constantFrom('_', '_', '_', 'v1', '', '__', '_.._')
const HOST = fc.constantFrom(
  'productpage.bookinfo.svc.cluster.local',
  'PRODUCTPAGE.bookinfo.svc.cluster.local',
  'productpage.bookinfo.svc.cluster.local.',
  'reviews.bookinfo.svc.cluster.local',
  '*.bookinfo.svc.cluster.local',
  'productpage.bookinfo.svc.cluster.local.evil.example',
)
const NEAR_NAMES = fc
  .tuple(LABEL, PORT, SUBSET, HOST)
  .map(([label, port, subset, host]) => `${label}_.${port}_.${subset}_.${host}`.replace('___.', '__.'))
const SERVER_NAMES = fc.oneof(
  { weight: 3, arbitrary: fc.constantFrom(NAME, SECOND, NAME.toUpperCase(), SECOND.replace('o', 'O')) },
  { weight: 6, arbitrary: NEAR_NAMES },
  { weight: 3, arbitrary: fc.tuple(fc.constantFrom(NAME, SECOND), fc.nat(60), fc.nat(255)).map(changed) },
  { weight: 2, arbitrary: fc.string({ unit: 'binary', maxLength: 40 }) },
)

/** One byte of a good name is another one. */
function changed([name, at, byte]: [string, number, number]): string {
  return name.slice(0, at) + String.fromCharCode(byte) + name.slice(at + 1)
}

/** Slow, and of nothing but the list of what is served: equal after lower-casing ASCII, and never so by any other folding. */
function isServed(name: Buffer): boolean {
  const lower = [...name].map((byte) => (byte >= 0x41 && byte <= 0x5a ? byte + 0x20 : byte))
  return [NAME, SECOND].some((served) => Buffer.from(served).equals(Buffer.from(lower)))
}

const names: Generated = {
  title: 'server names',
  share: 24,
  property: (target, scene) =>
    fc.asyncProperty(SERVER_NAMES, async (text) => {
      const name = Buffer.from(text, 'latin1')
      await unheard(target, scene, async (context) => {
        const seen = await context.send(helloFor(name))
        expect(seen.serverHello === isServed(name), `served: ${isServed(name)}, but ${outcomeOf(seen)}`)
        if (!isServed(name)) expect(outcomeOf(seen) === 'alert 112', `refused by ${outcomeOf(seen)}`)
      })
    }),
}

const certificates: Generated = {
  title: 'certificates',
  share: 6,
  property: (target, scene) =>
    fc.asyncProperty(leafRecipe, async (recipe: LeafRecipe) => {
      const { leaf, good } = mintRecipe(recipe, scene.pool)
      const context = new AttackContext(target, scene)
      const before = scene.canary.connects
      const seen = await context.call({ cert: leaf.pem, key: leaf.keyPem, maxVersion: recipe.version })
      context.end()
      expect(
        (outcomeOf(seen) === 'routed') === good,
        `${outcomeOf(seen)}, where it is ${good ? 'good' : 'bad'}`,
      )
      expect(good || scene.canary.connects === before, 'the backend was connected')
    }),
}

const ITEM = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant('data' as const),
      bytes: fc.uint8Array({ minLength: 1, maxLength: 200 }),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('sealed' as const),
      type: fc.constantFrom(20, 21, 22, 24, 99),
      bytes: fc.uint8Array({ maxLength: 60 }),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('raw' as const),
      bytes: fc.uint8Array({ minLength: 1, maxLength: 60 }),
    }),
  },
)

const garbage: Generated = {
  title: 'garbage inside good connections',
  share: 6,
  property: (target, scene) =>
    fc.asyncProperty(fc.array(ITEM, { minLength: 1, maxLength: 8 }), async (items) => {
      const { canary } = scene
      const context = new AttackContext(target, scene)
      const client = context.tls({ minVersion: 'TLSv1.3' })
      await client.wire.until(() => client.received >= BANNER.length || client.wire.tcpEnd !== 'open')
      const connection = canary.connections.at(-1)
      const keys = client.clientKeys()
      for (const item of items) {
        if (item.kind === 'raw') client.wire.socket.write(item.bytes)
        else
          client.wire.socket.write(keys.seal(item.kind === 'data' ? 23 : item.type, Buffer.from(item.bytes)))
      }
      client.fin()
      await canary.until(() => connection?.end !== 'open')
      context.end()
      const firstBad = items.findIndex(({ kind }) => kind !== 'data')
      const honest = Buffer.concat(
        items.slice(0, firstBad < 0 ? items.length : firstBad).map(({ bytes }) => bytes),
      )
      const all = Buffer.concat(items.filter(({ kind }) => kind === 'data').map(({ bytes }) => bytes))
      const got = connection?.bytes ?? Buffer.alloc(0)
      expect(all.subarray(0, got.length).equals(got), 'the backend got bytes that nobody sent as payload')
      if (firstBad < 0) expect(got.equals(honest), `the backend got ${got.length} of ${honest.length} bytes`)
    }),
}

export const GENERATED: readonly Generated[] = [hellos, names, certificates, garbage]

/** Runs `total` inputs against a target; resolves with what failed, each with its smallest form. */
export async function runGenerated(
  target: Target,
  scene: Scene,
  total: number,
  seed: number,
): Promise<{ readonly inputs: number; readonly failures: readonly string[] }> {
  const failures: string[] = []
  let inputs = 0
  for (const { title, share, property } of GENERATED) {
    const numRuns = Math.ceil((total * share) / 100)
    const details = await fc.check(property(target, scene), { numRuns, seed, endOnFailure: false })
    inputs += details.numRuns
    if (details.failed)
      failures.push(
        `${title}: ${fc.stringify(details.counterexample)}: ${String(details.errorInstance ?? '')}`,
      )
  }
  return { inputs, failures }
}
