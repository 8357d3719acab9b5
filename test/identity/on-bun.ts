// The verdicts of this process, given again by Bun: its crypto is BoringSSL's, and so is its idea of a good certificate.
import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import type { Test } from 'tap'
import { findRuntime } from '../../src/cli/runtime.ts'
import type { RevocationMode } from '../../src/identity/revocation.ts'

/** One question, as it can be asked in another process. */
export interface Question {
  /** Base64. */
  readonly leaf: string
  readonly trustDomain: string
  /** PEM. */
  readonly bundle: string
  /** PEM; '' for none. */
  readonly crl: string
  readonly usage: 'client' | 'server'
  readonly mode: RevocationMode
  readonly nowMs: number
}

export interface Asked extends Question {
  readonly verdict: string
}

const MAIN = fileURLToPath(new URL('./on-bun-main.ts', import.meta.url))

const bun = findRuntime('bun')

/** Why the question cannot be put to Bun here. With CI set it is put all the same, and fails. */
export const noBun: string | false = bun.ok || process.env['CI'] !== undefined ? false : bun.error

/** Fails where Bun says something else, or where there is no Bun. */
export function sameOnBun(t: Test, asked: readonly Asked[]): void {
  if (!bun.ok) return void t.fail(bun.error)
  const { stdout, stderr, status } = spawnSync(bun.value.file, [MAIN], {
    input: JSON.stringify(asked),
    encoding: 'utf8',
    maxBuffer: 64 * 1024 * 1024,
  })
  t.equal(status, 0, stderr)
  t.ok(asked.length > 0, `${asked.length} verdicts`)
  t.same(
    JSON.parse(stdout || '[]'),
    asked.map(({ verdict }) => verdict),
  )
}
