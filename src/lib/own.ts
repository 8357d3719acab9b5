/**
 * The member of a record under a key that somebody else chose; undefined where it has none of its own. `record[key]` would also
 * find what every object inherits: a port may well be called `constructor`.
 */
export function own<T>(record: Readonly<Record<string, T>>, key: string): T | undefined {
  return Object.hasOwn(record, key) ? record[key] : undefined
}
