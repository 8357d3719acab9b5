// The bootstraps of docs/CLIENTS.md, as a user has them, with the addresses and folders of a test put in.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'

const DOCUMENT = readFileSync(join(import.meta.dirname, '../../docs/CLIENTS.md'), 'utf8')

export type Example = 'envoy.yaml' | 'sds.yaml' | 'grpc.json' | 'grpc-js.json'

/** The code block of the document; each text of `values` must stand in it, and its value takes its place. */
export function example(name: Example, values: Readonly<Record<string, string>>): string {
  let text = blockOf(name)
  for (const [known, value] of Object.entries(values)) {
    if (!text.includes(known)) throw new Error(`docs/CLIENTS.md: no "${known}" in ${name}`)
    text = text.replaceAll(known, () => value)
  }
  return text
}

function blockOf(name: Example): string {
  const blocks = [...DOCUMENT.matchAll(/^```(?:yaml|json)\n([\s\S]*?)^```$/gm)].map(([, body = '']) => body)
  const found = blocks.filter((body) =>
    name.endsWith('.yaml')
      ? body.startsWith(`# ${name}\n`)
      : body.startsWith('{') && body.includes('"type": "insecure"') === (name === 'grpc-js.json'),
  )
  const [block] = found
  if (block === undefined || found.length > 1)
    throw new Error(`docs/CLIENTS.md has ${found.length} of ${name}`)
  return block
}
