// biome-ignore-all lint/suspicious/noTemplateCurlyInString: placeholders of manifests are what is tested
import fc from 'fast-check'
import t from 'tap'
import { parseAllDocuments } from 'yaml'
import {
  appendManifest,
  removeManifest,
  renderManifest,
  replaceManifest,
} from '../../src/objects/manifest-edit.ts'
import { substitute } from '../../src/objects/substitute.ts'

const at = (document: number, item?: number) => ({ document, item })
const jsOf = (text: string): unknown[] =>
  parseAllDocuments(text).map((document) => document.toJS() as unknown)

const FILE = `# The head of the file.

# about a
a:   1   # one
list: [ 1,2 ]
---
# about b
metadata:
  name: \${ORG}   # who
  labels:
    x: y # old
spec:
- one
- two # second
# after b
---
c:   3
# the end
`

t.test('replacing changes what differs and nothing else', async (t) => {
  const wanted = {
    metadata: { name: 'acme', labels: { x: 'z' } },
    spec: ['one', 'two', 'three'],
    more: { n: 1 },
  }
  const text = replaceManifest(FILE, at(1), wanted, { ORG: 'acme' })
  t.equal(
    text,
    FILE.replace('name: ${ORG}   # who', 'name: ${ORG} # who')
      .replace('x: y # old', 'x: z # old')
      .replace('- two # second\n', '- two # second\n- three\nmore:\n  n: 1\n'),
  )
})

t.test('the first document keeps the comments before it', async (t) => {
  const text = replaceManifest(FILE, at(0), { a: 2, list: [1, 2] }, {})
  t.ok(text.startsWith('# The head of the file.\n\n# about a\na: 2 # one\n'), text)
  t.equal(text.slice(text.indexOf('---')), FILE.slice(FILE.indexOf('---')))
})

t.test('removing takes one document, byte for byte', async (t) => {
  const [first, second, third] = FILE.split(/^(?=---\n)/m)
  t.equal(removeManifest(FILE, at(1)), `${first}${third}`)
  t.equal(removeManifest(FILE, at(2)), `${first}${second}`)
  t.equal(removeManifest(FILE, at(0)), `# The head of the file.\n\n# about a\n${second}${third}`)
})

t.test('a file with nothing left in it is no file', async (t) => {
  t.equal(removeManifest('# only\na: 1\n', at(0)), undefined)
  t.equal(removeManifest('---\na: 1\n---\n---\n# nothing\n', at(0)), undefined)
})

t.test('items of a List', async (t) => {
  const list = 'kind: List\nitems:\n- a: 1 # one\n- b: 2\n---\nz: 1\n'
  t.equal(replaceManifest(list, at(0, 0), { a: 3 }, {}), list.replace('a: 1', 'a: 3'))
  t.equal(removeManifest(list, at(0, 1)), list.replace('- b: 2\n', ''))
  t.equal(removeManifest('kind: List\nitems:\n- a: 1\n---\nz: 1\n', at(0, 0)), '---\nz: 1\n')
  t.equal(removeManifest('kind: List\nitems:\n- a: 1\n', at(0, 0)), undefined)
})

t.test('JSON stays JSON', async (t) => {
  t.strictSame(JSON.parse(replaceManifest('{"a": 1}', at(0), { a: { b: 'x' } }, {}, true)), { a: { b: 'x' } })
  const list = '{"kind": "List", "items": [{"a": 1}, {"b": 2}]}'
  t.strictSame(JSON.parse(replaceManifest(list, at(0, 1), { b: 3 }, {}, true)), {
    kind: 'List',
    items: [{ a: 1 }, { b: 3 }],
  })
  t.strictSame(JSON.parse(removeManifest(list, at(0, 0), true) ?? ''), { kind: 'List', items: [{ b: 2 }] })
})

t.test('anchors, document ends, Windows line ends', async (t) => {
  const tied = 'a: &x {k: 1}\nb: *x\n---\nc: 1\n'
  t.strictSame(jsOf(replaceManifest(tied, at(0), { a: { k: 2 }, b: { k: 1 } }, {})), [
    { a: { k: 2 }, b: { k: 1 } },
    { c: 1 },
  ])
  const ended = 'a: 1\n...\nb: 2\n...\n'
  t.strictSame(jsOf(replaceManifest(ended, at(0), { a: 3 }, {})), [{ a: 3 }, { b: 2 }])
  t.strictSame(jsOf(removeManifest(ended, at(0)) ?? ''), [{ b: 2 }])
  t.equal(
    replaceManifest('a: 1\r\nb: 1\r\n---\r\nc: 2\r\n', at(0), { a: 2, b: 1 }, {}),
    'a: 2\r\nb: 1\r\n---\r\nc: 2\r\n',
  )
})

t.test('appending works on any end of file', async (t) => {
  t.strictSame(jsOf(appendManifest('a: 1', { b: 2 })), [{ a: 1 }, { b: 2 }])
  t.strictSame(jsOf(appendManifest('', { b: 2 })), [{ b: 2 }])
})

t.test('any document becomes any other, its neighbours stay', async () => {
  const key = fc.constantFrom('a', 'b', 'c', 'd e', '1')
  const scalar = fc.oneof(
    fc.integer(),
    fc.boolean(),
    fc.constant(null),
    fc.constantFrom('x', '${V}', '$${V}', 'a: b', '# c', '', '1', 'yes', 'l1\nl2\n', '- x'),
  )
  const { value } = fc.letrec((tie) => ({
    value: fc.oneof(
      { depthSize: 'small' },
      scalar,
      fc.array(tie('value'), { maxLength: 3 }),
      fc.dictionary(key, tie('value'), { maxKeys: 3, noNullPrototype: true }),
    ),
  }))
  const map = fc.dictionary(key, value, { minKeys: 1, maxKeys: 4, noNullPrototype: true })
  const read = (text: string) => jsOf(text).map((doc) => substitute(doc, { V: 'val' }).doc)
  fc.assert(
    fc.property(map, map, map, (before, after, other) => {
      const text = `${renderManifest(before)}---\n# kept\n${renderManifest(other)}`
      const changed = replaceManifest(text, at(0), after, { V: 'val' })
      t.match(changed, '# kept\n')
      // -0 is 0 in YAML, too.
      t.strictSame(JSON.stringify(sorted(read(changed))), JSON.stringify(sorted([after, other])))
    }),
    { seed: 11, numRuns: 150 },
  )
})

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted)
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(
    Object.entries(value)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, member]) => [key, sorted(member)]),
  )
}
