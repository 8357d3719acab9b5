export type Labels = Readonly<Record<string, string>>

/** Every label of `selector` is there with the same value. An empty selector matches nothing: it is never meant as "all". */
export function matchesLabels(selector: Labels, labels: Labels): boolean {
  const wanted = Object.entries(selector)
  // Object.hasOwn, since labels come from documents: a label named `constructor` must not meet Object.prototype.
  return (
    wanted.length > 0 && wanted.every(([key, value]) => Object.hasOwn(labels, key) && labels[key] === value)
  )
}

/** `app=details,version=v1`, keys sorted; `(no labels)` when empty. */
export function formatLabels(labels: Labels): string {
  const pairs = Object.entries(labels).map(([key, value]) => `${key}=${value}`)
  return pairs.length === 0 ? '(no labels)' : pairs.sort().join(',')
}

/** Plain code unit order, the same on every machine: "first by name" must not depend on a locale. */
export function byText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0
}
