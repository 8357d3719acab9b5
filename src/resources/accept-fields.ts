import type { DescField, DescMessage, Message } from '@bufbuild/protobuf'
import { type ReflectMessage, reflect } from '@bufbuild/protobuf/reflect'

/**
 * An allow-list in the proto's own field names: `true` takes a field whole, an object goes on into its message, list or map.
 * Fields that our generated code is too old to know are named by number: `'#21'`.
 */
export type Allowed = true | { readonly [field: string]: Allowed }

/**
 * The paths of the set fields that the list does not name, such as `filter_chains[0].transport_socket_connect_timeout`. Walks what
 * is set, so its cost is the message's size, not the schema's, and a field that a later Envoy adds is refused without anyone
 * thinking of it.
 */
export function unsupportedFields(
  schema: DescMessage,
  message: Message,
  allowed: Allowed,
  path: string,
): string[] {
  const found: string[] = []
  if (allowed !== true) walk(reflect(schema, message), allowed, path, found)
  return found
}

function walk(message: ReflectMessage, allowed: Exclude<Allowed, true>, path: string, found: string[]): void {
  const prefix = path === '' ? '' : `${path}.`
  for (const field of message.fields) {
    if (!message.isSet(field)) continue
    const rule = allowed[field.name]
    if (rule === true) continue
    if (rule === undefined) found.push(prefix + field.name)
    else descend(message, field, rule, prefix + field.name, found)
  }
  for (const unknown of message.getUnknown() ?? []) {
    if (allowed[`#${unknown.no}`] !== true) found.push(`${prefix}field number ${unknown.no}`)
  }
}

function descend(
  message: ReflectMessage,
  field: DescField,
  rule: Exclude<Allowed, true>,
  path: string,
  found: string[],
): void {
  if (field.fieldKind === 'message') walk(message.get(field), rule, path, found)
  if (field.fieldKind === 'list' && field.listKind === 'message') {
    for (const [index, item] of message.get(field).entries())
      walk(item as ReflectMessage, rule, `${path}[${index}]`, found)
  }
  if (field.fieldKind === 'map' && field.mapKind === 'message') {
    for (const [key, item] of message.get(field))
      walk(item as ReflectMessage, rule, `${path}["${key}"]`, found)
  }
}
