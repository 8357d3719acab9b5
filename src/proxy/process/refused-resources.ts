import type { Logger } from '../../lib/log.ts'
import { formatProblem, type Problem } from '../../lib/result.ts'
import type { XdsUpdate } from '../../xds/client.ts'
import { shortType as shortName } from '../../xds/types.ts'

/** Resources whose last version was refused, until a good one comes or discovery takes them away; and how often that happened. */
export class RefusedResources {
  readonly #problems = new Map<string, Problem>()
  readonly #nacks: Record<string, number> = {}
  readonly #logger: Logger

  constructor(logger: Logger) {
    this.#logger = logger
  }

  /** By type URL and name, with a space between. */
  get problems(): ReadonlyMap<string, Problem> {
    return this.#problems
  }

  get nacks(): number {
    return Object.values(this.#nacks).reduce((sum, count) => sum + count, 0)
  }

  /** Updates with something to refuse, by the short name of the type. */
  get nacksByType(): Readonly<Record<string, number>> {
    return { ...this.#nacks }
  }

  /** After an update: what `ResourceSet.update` said of it. */
  update(
    typeUrl: string,
    { upserted, removed }: Pick<XdsUpdate, 'upserted' | 'removed'>,
    problems: readonly Problem[],
  ): void {
    for (const name of [...upserted.map((one) => one.name), ...removed])
      this.#problems.delete(`${typeUrl} ${name}`)
    const type = shortName(typeUrl)
    for (const one of problems) {
      const bad = upserted.find(({ name }) => one.object === `${type} ${name}`)
      this.#problems.set(`${typeUrl} ${bad?.name ?? one.object}`, one)
      this.#logger.warn({ problem: one, type }, `refused: ${formatProblem(one)}`)
    }
    if (problems.length > 0) this.#nacks[type] = (this.#nacks[type] ?? 0) + 1
  }
}
