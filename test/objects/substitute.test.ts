// biome-ignore-all lint/suspicious/noTemplateCurlyInString: placeholders of manifests are what is tested
import fc from 'fast-check'
import t from 'tap'
import { parseManifestFile } from '../../src/objects/manifest-file.ts'
import { escapePlaceholders, substitute } from '../../src/objects/substitute.ts'

t.test('values take the place of placeholders, wherever a text is', async (t) => {
  const { doc, missing } = substitute(
    { a: ['x-${A}', { b: '${A}${B}' }], n: 1, z: null },
    { A: 'one', B: 'two' },
  )
  t.strictSame(doc, { a: ['x-one', { b: 'onetwo' }], n: 1, z: null })
  t.strictSame(missing, [])
})

t.test('keys stay, the escape stays, a missing one is named with its field', async (t) => {
  const { doc, missing } = substitute({ '${A}': { b: ['$${A} $A ${1}', '${C}'] } }, { A: 'one' })
  t.strictSame(doc, { '${A}': { b: ['${A} $A ${1}', '${C}'] } })
  t.strictSame(missing, [{ name: 'C', field: '${A}.b[1]' }])
})

t.test('names of object prototypes are names like others', async (t) => {
  t.strictSame(substitute('${constructor}', {}).missing, [{ name: 'constructor', field: '' }])
})

t.test('a value cannot change the structure of a document', async (t) => {
  const text = 'apiVersion: v1\nkind: Namespace\nmetadata:\n  name: a\n  annotations:\n    note: ${EVIL}\n'
  const evil = 'x\n  labels: {admin: "true"}\n---\nkind: Namespace # "\' ${EVIL}'
  const entries = parseManifestFile(text, 'f', { EVIL: evil })
  t.ok(entries.ok)
  if (!entries.ok) return
  t.equal(entries.value.length, 1)
  t.strictSame(entries.value[0]?.object?.metadata.annotations, { note: evil })
  t.strictSame(entries.value[0]?.object?.metadata.labels, {})
})

t.test('what was escaped comes back', async () => {
  const part = fc.constantFrom('$', '{', '}', 'A', '${A}', '$${A}', ' ')
  const text = fc.array(part).map((parts) => parts.join(''))
  fc.assert(
    fc.property(text, (value) => {
      const back = substitute(escapePlaceholders({ value }), { A: 'wrong' })
      return back.missing.length === 0 && (back.doc as { value: string }).value === value
    }),
    { seed: 7, numRuns: 500 },
  )
})
