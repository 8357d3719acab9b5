/** Why a text is no well-formed XML, as far as a report goes: elements, attributes and references; empty where it is. */
export function xmlProblem(text: string): string {
  const body = text.replace(/^<!DOCTYPE html>\s*/, '')
  const open: string[] = []
  let at = 0
  for (const match of body.matchAll(/<(\/?)([a-zA-Z][\w-]*)((?:\s+[\w:-]+="[^"<]*")*)\s*(\/?)>/g)) {
    const before = textProblem(body.slice(at, match.index))
    if (before !== '') return before
    at = match.index + match[0].length
    const [, closing, name = '', attributes = '', empty] = match
    const names = [...attributes.matchAll(/([\w:-]+)="/g)].map(([, attribute]) => attribute)
    if (new Set(names).size !== names.length) return `an attribute twice: ${match[0]}`
    if (/&(?!(amp|lt|gt|quot|#39);)/.test(attributes)) return `an ampersand: ${match[0]}`
    if (closing === '/' && open.pop() !== name) return `</${name}> ends something else`
    if (closing === '' && empty === '') open.push(name)
    if (open.length === 0 && body.slice(at).trim() !== '') return `after the end: ${body.slice(at, at + 40)}`
  }
  return open.length > 0 ? `never ended: ${open.join(', ')}` : textProblem(body.slice(at))
}

function textProblem(text: string): string {
  // Characters that XML has not (XML 1.0 section 2.2).
  if (/[\u0000-\u0008\u000b\u000c\u000e-\u001f]/.test(text))
    return `a control character: ${JSON.stringify(text)}`
  return /<|&(?!(amp|lt|gt|quot|#39);)/.test(text) ? `markup in a text: ${text.slice(0, 60)}` : ''
}
