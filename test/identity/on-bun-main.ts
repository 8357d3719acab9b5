// Runs on Bun: questions as JSON on standard input, verdicts as JSON on standard output.
import { readFileSync } from 'node:fs'
import { attachCrls } from '../../src/identity/attach-crls.ts'
import { parseCrlsPem } from '../../src/identity/crl.ts'
import { TrustBundle, TrustBundles } from '../../src/identity/trust-bundle.ts'
import { verifySvid } from '../../src/identity/verify-svid.ts'
import type { Question } from './on-bun.ts'

const questions = JSON.parse(readFileSync(0, 'utf8')) as Question[]
process.stdout.write(JSON.stringify(questions.map(answer)))

function answer({ leaf, trustDomain, bundle, crl, usage, mode, nowMs }: Question): string {
  const parsed = TrustBundle.parse(trustDomain, bundle, 'bundle')
  if (!parsed.ok) return 'no bundle'
  const lists = crl === '' ? { ok: true as const, value: [] } : parseCrlsPem(crl)
  const attached = lists.ok ? attachCrls([parsed.value], lists.value) : lists
  if (!attached.ok) return 'no crl'
  const bundles = new TrustBundles(attached.value.bundles)
  const verdict = verifySvid(Buffer.from(leaf, 'base64'), bundles, nowMs, usage, mode)
  return verdict.ok ? 'ok' : verdict.error.code
}
