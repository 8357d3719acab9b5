// Style as a test: who may import whom, no cycles, file lengths, promises that name their tests.
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import t from 'tap'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const src = join(root, 'src')

/** docs/ARCHITECTURE.md's table, as data. `cli` may import everything. */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  lib: [],
  identity: ['lib'],
  objects: ['lib'],
  model: ['lib', 'identity', 'objects'],
  xds: ['lib', 'identity'],
  credentials: ['lib', 'identity', 'xds'],
  resources: ['lib', 'identity', 'model', 'xds'],
  proxy: ['lib', 'identity', 'resources', 'xds'],
  discovery: ['lib', 'identity', 'objects', 'model', 'resources', 'xds'],
  controllers: ['lib', 'objects', 'model', 'resources'],
  admin: ['lib'],
  load: ['lib', 'identity', 'proxy'],
}
/** A file over the limit needs a reason, written here. */
const LIMIT = 400
const LONGER: Readonly<Record<string, string>> = {}

function filesBelow(folder: string, suffix: string): string[] {
  return readdirSync(folder, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile() && entry.name.endsWith(suffix))
    .map((entry) => join(entry.parentPath, entry.name))
    .filter((file) => !file.includes('/gen/') && !file.includes('/.gen-'))
}

const sources = filesBelow(src, '.ts')
const text = new Map(sources.map((file) => [file, readFileSync(file, 'utf8')]))

/** Relative imports of a file, as absolute paths; `typeOnly` imports vanish at run time and cannot make a cycle there. */
function importsOf(file: string): { readonly target: string; readonly typeOnly: boolean }[] {
  const found: { target: string; typeOnly: boolean }[] = []
  for (const match of (text.get(file) ?? '').matchAll(
    /^\s*(?:import|export)\s+(type\s+)?[^'"]*?from\s+'(\.[^']+)'|^\s*import\s+'(\.[^']+)'/gm,
  )) {
    const target = match[2] ?? match[3]
    if (target !== undefined)
      found.push({ target: resolve(dirname(file), target), typeOnly: match[1] !== undefined })
  }
  return found
}

const folderOf = (file: string): string => relative(src, file).split('/')[0] ?? ''

t.test('a folder imports only from those that the architecture allows', async (t) => {
  t.ok(sources.length > 50, 'the sources are found')
  for (const file of sources) {
    const allowed = MAY_IMPORT[folderOf(file)]
    if (allowed === undefined) continue
    for (const { target } of importsOf(file)) {
      const to = folderOf(target)
      if (to !== folderOf(file) && !allowed.includes(to))
        t.fail(
          `${relative(root, file)} imports ${relative(root, target)}: ${folderOf(file)} may not import ${to}`,
        )
    }
  }
})

t.test('no cycle of imports', async (t) => {
  const done = new Set<string>()
  const visit = (file: string, path: readonly string[]): void => {
    if (done.has(file)) return
    const at = path.indexOf(file)
    if (at >= 0) {
      t.fail(`cycle: ${[...path.slice(at), file].map((f) => relative(src, f)).join(' -> ')}`)
      return
    }
    for (const { target, typeOnly } of importsOf(file))
      if (!typeOnly && text.has(target)) visit(target, [...path, file])
    done.add(file)
  }
  for (const file of sources) visit(file, [])
})

t.test('every relative import names a file that exists', async (t) => {
  for (const file of sources) {
    for (const { target } of importsOf(file))
      if (!existsSync(target))
        t.fail(`${relative(root, file)} imports ${relative(root, target)}, which is not there`)
  }
})

t.test(`no source file has over ${LIMIT} lines without a reason`, async (t) => {
  for (const [file, content] of text) {
    const lines = content.split('\n').length
    const name = relative(root, file)
    if (lines > LIMIT && LONGER[name] === undefined) t.fail(`${name} has ${lines} lines`)
  }
})

t.test('no left-over markers, no default exports', async (t) => {
  for (const [file, content] of text) {
    if (/\b(FIXME|TODO|XXX)\b/.test(content)) t.fail(`${relative(root, file)} has a left-over marker`)
    if (/^export default /m.test(content)) t.fail(`${relative(root, file)} has a default export`)
  }
})

const TEST_REFERENCE = /`(test\/[^`#]+\.test\.ts)(?:#([^`]+))?`/g

/** Why the tests that a text names are not there. */
function missingTests(content: string): string[] {
  return [...content.matchAll(TEST_REFERENCE)].flatMap(([, file = '', name]) => {
    if (!existsSync(join(root, file))) return [`${file} is not there`]
    const found = name === undefined || readFileSync(join(root, file), 'utf8').includes(name)
    return found ? [] : [`${file} has no test "${name}"`]
  })
}

t.test('every promise names a test that exists', async (t) => {
  const promises = readFileSync(join(root, 'docs', 'PROMISES.md'), 'utf8')
  const rows = promises.split('\n').filter((line) => line.startsWith('|') && !/^\|\s*(-|promise)/i.test(line))
  t.ok(rows.length > 20, 'the promises are found')
  for (const row of rows) {
    if (row.search(TEST_REFERENCE) === -1) t.fail(`a promise without a test: ${row}`)
    for (const why of missingTests(row)) t.fail(why)
  }
})

t.test('every invariant and attack of the security document names tests and files that exist', async (t) => {
  const security = readFileSync(join(root, 'docs', 'SECURITY.md'), 'utf8')
  const invariants = [...security.matchAll(/^\| (I\d+) \|.*$/gm)]
  t.same(
    invariants.map(([, id]) => id),
    Array.from({ length: 26 }, (_, i) => `I${i + 1}`),
    'there are 26 of them, in order',
  )
  for (const [row] of invariants)
    if (row.search(TEST_REFERENCE) === -1) t.fail(`an invariant without a test: ${row}`)
  for (const why of missingTests(security)) t.fail(why)
  for (const [, file = ''] of security.matchAll(/`(src\/[^`]+)`/g))
    if (!existsSync(join(root, file))) t.fail(`${file} is not there`)
})
