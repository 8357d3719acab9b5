/** An expected outcome as a value: exceptions are left to mean a bug or the operating system. */
export type Result<T, E = Problem> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly error: E }

export const ok = <T>(value: T): { readonly ok: true; readonly value: T } => ({ ok: true, value })
export const fail = <E>(error: E): { readonly ok: false; readonly error: E } => ({ ok: false, error })

/** What is wrong with one input, in the words an operator needs: which object, which field, what was expected. */
export interface Problem {
  /** The file or object at fault, e.g. `bookinfo.yaml#2 WorkspaceSetting/bookinfo-ws-setting`. */
  readonly object: string
  /** The field path, e.g. `spec.ports[0].targetPort`; empty when the whole object is meant. */
  readonly field: string
  /** What was found and what was expected, one sentence without a full stop. */
  readonly message: string
  /** Whatever else is wrong with the same object, for those who want to hear all of it at once. */
  readonly also?: readonly Problem[]
}

export const problem = (object: string, field: string, message: string): Problem => ({
  object,
  field,
  message,
})

/** One line: `object: field: message`. */
export function formatProblem(p: Problem): string {
  return [p.object, p.field, p.message].filter((part) => part !== '').join(': ')
}
