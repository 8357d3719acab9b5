// The section of docs/ENVOY-SUBSET.md that lists the differences, made from the data that the tests run on. `node
// test/differential/document.ts` writes it.
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { catalogue } from '../attacks/catalogue.ts'
import { mintPool } from '../attacks/certificates.ts'
import { DIFFERENCES } from './differences.ts'

export const DOCUMENT = fileURLToPath(new URL('../../docs/ENVOY-SUBSET.md', import.meta.url))
const BEGIN = '<!-- differences -->'
const END = '<!-- /differences -->'

const row = (...cells: readonly string[]): string =>
  `| ${cells.map((cell) => cell.replaceAll('|', '·')).join(' | ')} |`

/** Markdown between the markers, both included. */
export function differencesSection(): string {
  const inputs = catalogue(mintPool()).filter(
    ({ ours, envoy }) => ours !== envoy && !(ours === 'closed' && envoy === 'cut'),
  )
  return [
    BEGIN,
    '## Where the engine and Envoy differ',
    '',
    'The same resources and inputs go through both. What is not listed here ends alike, or a test fails.',
    '',
    '### Connections',
    'Each row is a case of `test/differential/differential.test.ts`: what the client saw · what the backend saw · how it ended.',
    '',
    row('case', 'Envoy', 'ours', 'why'),
    '|---|---|---|---|',
    ...DIFFERENCES.map(({ id, envoy, ours, why }) => row(`\`${id}\``, envoy.join('; or '), ours, why)),
    '',
    '### Bad inputs',
    'Each row is one of `test/attacks/catalogue.test.ts`. *Answered*: a ServerHello came; *cut*: closed or reset without a word.',
    '',
    row('input', 'Envoy', 'ours'),
    '|---|---|---|',
    ...inputs.map(({ title, envoy, ours }) => row(title, envoy, ours)),
    END,
  ].join('\n')
}

/** The document with the section as it has to be. */
export function withSection(text: string): string {
  const [begin, end] = [text.indexOf(BEGIN), text.indexOf(END)]
  if (begin < 0 || end < begin) return `${text.trimEnd()}\n\n${differencesSection()}\n`
  return text.slice(0, begin) + differencesSection() + text.slice(end + END.length)
}

export function readDocument(): string {
  return existsSync(DOCUMENT) ? readFileSync(DOCUMENT, 'utf8') : '# What of Envoy the engine speaks\n'
}

if (process.argv[1] === fileURLToPath(import.meta.url)) writeFileSync(DOCUMENT, withSection(readDocument()))
