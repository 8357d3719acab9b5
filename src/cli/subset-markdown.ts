import { create, type DescMessage, fromBinary, type Message, ScalarType, toBinary } from '@bufbuild/protobuf'
import { reflect } from '@bufbuild/protobuf/reflect'
import { AcceptContext } from '../resources/accept-context.ts'
import type { Allowed } from '../resources/accept-fields.ts'
import { readRbac } from '../resources/accept-rbac.ts'
import { pack } from '../resources/envoy.ts'
import { SUBSET, type SubsetMessage } from '../resources/subset.ts'
import { envoyDescriptors } from '../xds/descriptors.ts'
import { PermissionSchema, PrincipalSchema } from '../xds/gen/envoy/config/rbac/v3/rbac_pb.js'
import { RBACSchema } from '../xds/gen/envoy/extensions/filters/network/rbac/v3/rbac_pb.js'

/** Every message of the subset with its fields; what is not there is refused with its path. */
export function subsetMarkdown(): string {
  const rules = [
    '### Permissions and principals of rbac',
    `- permissions: ${rulesOf('permissions').join(', ')}`,
    `- principals: ${rulesOf('principals').join(', ')}; \`custom\` with \`mtls_authenticated\`, or with our own \`isthmus.rbac.principals.issuer\``,
    '- string matchers: `exact`, `prefix`, `suffix`, `contains`, `ignore_case`; no regular expressions',
  ].join('\n')
  const intro =
    'A field that is not listed is refused: from discovery its resource alone (NACK with the path), in a bootstrap the file. Made from the allow-lists that refuse it.'
  return ['## What is supported', '', intro, '', ...SUBSET.map(section), rules].join('\n')
}

function section({ type, about, fields, notes }: SubsetMessage): string {
  const desc = envoyDescriptors().getMessage(type)
  if (desc === undefined) throw new Error(`there is no message ${type}`)
  const paths = pathsOf(desc, fields, '')
  const stray = Object.keys(notes).find(
    (path) => !paths.some((one) => one === path || one.startsWith(`${path}.`)),
  )
  if (stray !== undefined) throw new Error(`${type}: a note on ${stray}, which is not supported`)
  const lines = [`### ${type}`, ...(about === '' ? [] : [about]), '']
  const plain = grouped(paths.filter((path) => notes[path] === undefined).map((path) => path.split('.')))
  if (plain.length > 0) lines.push(`As in Envoy: ${plain.map((one) => `\`${one}\``).join(', ')}`, '')
  const noted = Object.entries(notes).map(([path, note]) => `| \`${path}\` | ${note} |`)
  if (noted.length > 0) lines.push('| field | |', '|---|---|', ...noted, '')
  return lines.join('\n')
}

/** The leaves of an allow-list, in the order of the list. */
function pathsOf(desc: DescMessage, allowed: Allowed, prefix: string): string[] {
  if (allowed === true) return [prefix]
  return Object.entries(allowed).flatMap(([key, rule]) => {
    const field = desc.fields.find(({ name, number }) => name === key || `#${number}` === key)
    if (field === undefined) throw new Error(`${desc.typeName} has no field ${key}`)
    const path = prefix === '' ? field.name : `${prefix}.${field.name}`
    const inner = field.message
    if (rule === true || inner === undefined || Object.keys(rule).length === 0) return [path]
    // A map's rule is that of its values.
    return pathsOf(inner, rule, path)
  })
}

/** `a.b`, `a.c.d`, `a.c.e` as `a.{b, c.{d, e}}`. */
function grouped(paths: readonly (readonly string[])[]): string[] {
  const byFirst = Map.groupBy(paths, ([first = '']) => first)
  return [...byFirst].map(([first, all]) => {
    const inner = grouped(all.filter(({ length }) => length > 1).map((path) => path.slice(1)))
    if (inner.length === 0) return first
    return inner.length === 1 ? `${first}.${inner[0]}` : `${first}.{${inner.join(', ')}}`
  })
}

/** The rules that the reader takes, by trying each. */
function rulesOf(kind: 'permissions' | 'principals'): string[] {
  const schema = kind === 'permissions' ? PermissionSchema : PrincipalSchema
  return schema.fields
    .filter(({ oneof }) => oneof !== undefined)
    .filter((field) => {
      const message = reflect(schema)
      if (field.fieldKind === 'message') message.set(field, reflect(field.message))
      if (field.fieldKind === 'scalar') message.set(field, field.scalar === ScalarType.BOOL ? true : 1)
      const rule = fromBinary(schema, toBinary(schema, message.message as never)) as Message
      const any = { [kind]: [rule], [kind === 'permissions' ? 'principals' : 'permissions']: [] }
      const rbac = create(RBACSchema, { rules: { policies: { p: any } } } as never)
      const context = new AcceptContext('')
      readRbac(context, pack(RBACSchema, rbac), '', '')
      const finished = context.finish(undefined)
      const problems = finished.ok ? [] : [finished.error, ...(finished.error.also ?? [])]
      return !problems.some(
        ({ field: at, message: why }) => at.endsWith(`.${field.name}`) && why === 'not supported',
      )
    })
    .map(({ name }) => `\`${name}\``)
}
