import type { DescField, DescMessage, Message } from '@bufbuild/protobuf'
import { type ReflectMessage, reflect } from '@bufbuild/protobuf/reflect'

/**
 * An allow-list in the proto's own field names: `true` takes a field whole, an object goes on into its message, list or map.
 * Fields that our generated code is too old to know are named by number: `'#21'`.
 */
export type Allowed = true | { readonly [field: string]: Allowed }

/**
 * The path of the first set field that the list does not name, such as `filter_chains[0].transport_socket_connect_timeout`;
 * undefined when there is none. Walks what is set, so its cost is the message's size, not the schema's, and a field that a
 * later Envoy adds is refused without anyone thinking of it.
 */
export function unsupportedField(
  schema: DescMessage,
  message: Message,
  allowed: Allowed,
  path: string,
): string | undefined {
  return allowed === true ? undefined : walk(reflect(schema, message), allowed, path)
}

function walk(message: ReflectMessage, allowed: Exclude<Allowed, true>, path: string): string | undefined {
  const prefix = path === '' ? '' : `${path}.`
  for (const field of message.fields) {
    if (!message.isSet(field)) continue
    const rule = allowed[field.name]
    if (rule === true) continue
    if (rule === undefined) return prefix + field.name
    const found = descend(message, field, rule, prefix + field.name)
    if (found !== undefined) return found
  }
  for (const unknown of message.getUnknown() ?? []) {
    if (allowed[`#${unknown.no}`] !== true) return `${prefix}field number ${unknown.no}`
  }
  return undefined
}

function descend(
  message: ReflectMessage,
  field: DescField,
  rule: Exclude<Allowed, true>,
  path: string,
): string | undefined {
  if (field.fieldKind === 'message') return walk(message.get(field), rule, path)
  if (field.fieldKind === 'list' && field.listKind === 'message') {
    for (const [index, item] of message.get(field).entries()) {
      const found = walk(item as ReflectMessage, rule, `${path}[${index}]`)
      if (found !== undefined) return found
    }
  }
  if (field.fieldKind === 'map' && field.mapKind === 'message') {
    for (const [key, item] of message.get(field)) {
      const found = walk(item as ReflectMessage, rule, `${path}["${key}"]`)
      if (found !== undefined) return found
    }
  }
  return undefined
}
