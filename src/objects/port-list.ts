/**
 * Annotation of a Service, and in `configGenerationMetadata` of an item that exposes services: the ports that other clusters may call,
 * names or numbers separated by commas. Absent: all.
 */
export const PORTS_ANNOTATION = 'isthmus.io/exposed-ports'

/** `"9080, http-admin"` → 9080 and `http-admin`; undefined where the text is no such list, or empty. */
export function parsePortList(text: string): readonly (string | number)[] | undefined {
  const items = text.split(',').map((item) => item.trim())
  const list = items.map((item) => (/^\d+$/.test(item) ? Number(item) : item))
  const good = list.every((item) =>
    typeof item === 'number'
      ? item >= 1 && item <= 65_535
      : /^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/.test(item),
  )
  return good ? list : undefined
}
