/** `${NAME}`; `$${NAME}` stands for the text itself. */
const PLACEHOLDER = /(\$?)\$\{([A-Za-z_][A-Za-z0-9_]*)\}/g

/** Values for placeholders. An empty one counts as missing: it would change who an object is. */
export type Substitutions = Readonly<Record<string, string | undefined>>

export interface MissingValue {
  readonly name: string
  /** Path of the field that asks for it. */
  readonly field: string
}

/**
 * Puts values in the place of `${NAME}` in every text of a parsed document (not in keys). Since the document is parsed
 * already, a value cannot change its structure, whatever characters it has.
 */
export function substitute(doc: unknown, values: Substitutions): { doc: unknown; missing: MissingValue[] } {
  const missing: MissingValue[] = []
  const walk = (value: unknown, path: string): unknown => {
    if (typeof value === 'string') return substituteText(value, path)
    if (Array.isArray(value)) return value.map((item, index) => walk(item, `${path}[${index}]`))
    if (typeof value !== 'object' || value === null) return value
    return Object.fromEntries(
      Object.entries(value).map(([key, member]) => [key, walk(member, path === '' ? key : `${path}.${key}`)]),
    )
  }
  const substituteText = (text: string, path: string): string =>
    text.replace(PLACEHOLDER, (whole: string, escaped: string, name: string) => {
      if (escaped !== '') return whole.slice(1)
      const value = Object.hasOwn(values, name) ? values[name] : undefined
      if (value !== undefined && value !== '') return value
      missing.push({ name, field: path })
      return whole
    })
  return { doc: walk(doc, ''), missing }
}

/** The inverse for writing: texts that look like placeholders come back as they are. */
export function escapePlaceholders(value: unknown): unknown {
  if (typeof value === 'string') return value.replace(PLACEHOLDER, (whole: string) => `$${whole}`)
  if (Array.isArray(value)) return value.map(escapePlaceholders)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(Object.entries(value).map(([key, member]) => [key, escapePlaceholders(member)]))
}
