import { fail, ok, type Result } from '../lib/result.ts'

export interface PemBlock {
  /** `CERTIFICATE`, `PRIVATE KEY`, … */
  readonly label: string
  readonly der: Uint8Array
  /** As it was, with one newline at the end. */
  readonly text: string
}

const BEGIN = /^-----BEGIN ([A-Z0-9 ]+)-----[ \t]*$/
const MAX_BYTES = 1024 * 1024

/**
 * The blocks of a PEM file in their order (RFC 7468; text between blocks is ignored). Strict where it matters: a block that
 * is cut off, or whose base64 is broken, is an error and not a shorter file.
 */
export function parsePem(text: string, maxBytes: number = MAX_BYTES): Result<readonly PemBlock[], string> {
  if (text.length > maxBytes) return fail(`longer than ${maxBytes} bytes`)
  const blocks: PemBlock[] = []
  const lines = text.split(/\r?\n/)
  for (let i = 0; i < lines.length; i++) {
    const label = BEGIN.exec(lines[i] ?? '')?.[1]
    if (label === undefined) continue
    let end = i + 1
    while (end < lines.length && lines[end]?.trimEnd() !== `-----END ${label}-----`) end += 1
    if (end === lines.length) return fail(`a ${label} block that is cut off: no "-----END ${label}-----"`)
    const base64 = lines
      .slice(i + 1, end)
      .join('')
      .replace(/\s/g, '')
    if (!/^[A-Za-z0-9+/]+={0,2}$/.test(base64) || base64.length % 4 !== 0) {
      return fail(`a ${label} block that is not base64 (encrypted keys of the old form are not supported)`)
    }
    blocks.push({
      label,
      der: Uint8Array.from(Buffer.from(base64, 'base64')),
      text: `${lines.slice(i, end + 1).join('\n')}\n`,
    })
    i = end
  }
  return ok(blocks)
}

/** A file of certificates and nothing else, at least one. */
export function parseCertificatesPem(text: string): Result<readonly PemBlock[], string> {
  const blocks = parsePem(text)
  if (!blocks.ok) return blocks
  const stranger = blocks.value.find(({ label }) => label !== 'CERTIFICATE')
  if (stranger !== undefined) return fail(`holds a ${stranger.label}; only certificates belong here`)
  return blocks.value.length === 0
    ? fail('holds no certificate (PEM, "-----BEGIN CERTIFICATE-----")')
    : blocks
}
