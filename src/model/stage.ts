import { type Inputs, Memo, share } from '../lib/memo.ts'
import { Conditions } from './conditions.ts'
import type { ModelCondition } from './types.ts'

interface Outcome<V> {
  readonly value: V
  readonly said: readonly ModelCondition[]
}

/**
 * One step of the model, for the whole cluster or by key: a pure function of its inputs, run only where these are not identical to
 * the last ones. What it says of objects is part of its outcome, and repeated when the outcome is used again.
 */
export class Stage<I extends Inputs, V> {
  readonly #memo = new Memo()
  readonly #run: (inputs: I, conditions: Conditions, previous: V | undefined) => V
  readonly #shares: boolean

  /**
   * `shares`: the value is plain data, and its parts that are equal to the last one's stay identical to them, so that steps that
   * read these alone need not run either. Default false.
   */
  constructor(
    run: (inputs: I, conditions: Conditions, previous: V | undefined) => V,
    options: { readonly shares?: boolean } = {},
  ) {
    this.#run = run
    this.#shares = options.shares === true
  }

  /** How often it ran. */
  get runs(): number {
    return this.#memo.derived
  }

  get(inputs: I, conditions: Conditions, key = ''): V {
    const { value, said } = this.#memo.get(key, inputs, (_, previous: Outcome<V> | undefined) => {
      const local = new Conditions()
      const next = this.#run(inputs, local, previous?.value)
      return { value: this.#shares ? share(previous?.value, next) : next, said: local.said }
    })
    conditions.repeat(said)
    return value
  }

  /** Forgets the keys that nobody asked for since the last call. */
  sweep(): void {
    this.#memo.sweep()
  }
}
