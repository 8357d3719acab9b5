import { type KubeObject, type ObjectRef, refKey, refOf } from '../objects/types.ts'
import { byText } from './labels.ts'
import type { ConditionType, ModelCondition } from './types.ts'

/** `WorkspaceSetting/acme/eng/bookinfo-ws/bookinfo-ws-setting`, the object's name in every message. */
export const nameOf = (object: KubeObject | ObjectRef): string =>
  refKey('metadata' in object ? refOf(object) : object)

/** Collects what the model made of each object. A condition that is false outweighs a true one of the same type. */
export class Conditions {
  readonly #byKey = new Map<string, ModelCondition>()
  readonly #said: ModelCondition[] = []

  /** Everything that was said, in order. */
  get said(): readonly ModelCondition[] {
    return this.#said
  }

  /** Says again what was said elsewhere. */
  repeat(said: readonly ModelCondition[]): void {
    for (const condition of said) this.#add(condition)
  }

  holds(object: KubeObject, type: ConditionType, reason: string, message: string): void {
    this.#add({ object: nameOf(object), type, status: true, reason, message })
  }

  /** Of an object, or of one that cannot be read but for its name. */
  fails(object: KubeObject | ObjectRef, type: ConditionType, reason: string, message: string): void {
    this.#add({ object: nameOf(object), type, status: false, reason, message })
  }

  /** Sorted by object and type, one of each type per object. */
  list(): readonly ModelCondition[] {
    return [...this.#byKey.values()].sort((a, b) => byText(a.object, b.object) || byText(a.type, b.type))
  }

  #add(condition: ModelCondition): void {
    this.#said.push(condition)
    const key = `${condition.object}\n${condition.type}`
    const other = this.#byKey.get(key)
    if (other === undefined || (other.status && !condition.status)) {
      this.#byKey.set(key, condition)
    } else if (other.status === condition.status && !other.message.split('; ').includes(condition.message)) {
      // Two complaints of one type: both are said, under the reason that came first.
      this.#byKey.set(key, { ...other, message: `${other.message}; ${condition.message}` })
    }
  }
}
