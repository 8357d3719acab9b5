import type { Ca } from '../identity/ca.ts'
import { parseCertificatesPem } from '../identity/pem.ts'
import { verifySvid } from '../identity/verify-svid.ts'
import { fail, ok, type Result } from '../lib/result.ts'
import type { Model } from '../model/types.ts'
import { clusterOf } from './authorize.ts'
import type { Minted } from './minted-secret.ts'
import type { Trust } from './trust.ts'

/** The longest life of a minted SVID: an hour from its beginning, which the CA backdates by 2 minutes. Milliseconds. */
const SVID_LIFETIME_MS = 58 * 60_000

/**
 * Signs an SVID for an id, and holds it against what we ask of certificates ourselves: one that we would refuse, or take for another
 * cluster's, helps nobody and is never sent.
 */
export async function mintSvid(
  ca: Ca | undefined,
  { model, trust }: { readonly model: Model; readonly trust: Trust },
  id: string,
  nowMs: number,
  lifetimeMs: number = SVID_LIFETIME_MS,
): Promise<Result<Minted, string>> {
  if (ca === undefined) return fail('there is no signing CA')
  if (ca.trustDomain !== model.self.trustDomain)
    return fail(`the signing CA is of ${ca.trustDomain}, this cluster is of ${model.self.trustDomain}`)
  const issued = await ca.issue({ id, lifetimeMs: Math.min(lifetimeMs, SVID_LIFETIME_MS), nowMs })
  const blocks = parseCertificatesPem(issued.certificatePem)
  const leaf = blocks.ok ? blocks.value[0]?.der : undefined
  if (leaf === undefined) return fail('the signing CA made no certificate')
  const svid = verifySvid(leaf, trust.bundles, nowMs)
  if (!svid.ok)
    return fail(`what the signing CA signs is not trusted here (${svid.error.code}): ${svid.error.message}`)
  if (svid.value.id.uri !== id) return fail(`asked for ${id}, got ${svid.value.id.uri}`)
  const cluster = clusterOf(model, svid.value)
  if (!cluster.ok || cluster.value.id !== model.self.id)
    return fail(
      `what the signing CA signs is not this cluster's: ${cluster.ok ? `it is ${cluster.value.id}'s` : cluster.error}`,
    )
  const { certificatePem, privateKeyPem } = issued
  return ok({ certificatePem, privateKeyPem, notAfterMs: svid.value.notAfterMs })
}
