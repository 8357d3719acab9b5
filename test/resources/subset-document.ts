// The section of docs/ENVOY-SUBSET.md that lists what is supported, made from the allow-lists. `node
// test/resources/subset-document.ts` writes it; what else is in the document is left as it is.
import { readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { subsetMarkdown } from '../../src/cli/subset-markdown.ts'

const DOCUMENT = fileURLToPath(new URL('../../docs/ENVOY-SUBSET.md', import.meta.url))
const BEGIN = '<!-- subset -->'
const END = '<!-- /subset -->'

export function readDocument(): string {
  return readFileSync(DOCUMENT, 'utf8')
}

/** The document with the section as it has to be: after the title where it has none yet. */
export function withSubset(text: string): string {
  const section = `${BEGIN}\n${subsetMarkdown()}\n${END}`
  const [begin, end] = [text.indexOf(BEGIN), text.indexOf(END)]
  if (begin >= 0 && end > begin) return text.slice(0, begin) + section + text.slice(end + END.length)
  const [title = '', ...rest] = text.split('\n')
  return [title, '', section, ...rest].join('\n')
}

if (process.argv[1] === fileURLToPath(import.meta.url)) writeFileSync(DOCUMENT, withSubset(readDocument()))
