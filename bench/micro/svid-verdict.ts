// Whether a client's leaf is an SVID that its own trust domain vouches for: the first time, and from then on.
import { X509Certificate } from 'node:crypto'
import { createCa } from '../../src/identity/ca.ts'
import { TrustBundles } from '../../src/identity/trust-bundle.ts'
import { SvidVerifier, verifySvid } from '../../src/identity/verify-svid.ts'
import type { Micro } from './micro.ts'

export async function svidVerdictMicros(): Promise<Micro[]> {
  const ca = await createCa({ trustDomain: 'bench.local' })
  const { certificatePem } = await ca.issue({ namespace: 'bench', serviceAccount: 'client' })
  const leaf = new X509Certificate(certificatePem).raw
  const bundles = new TrustBundles([ca.bundle])
  const nowMs = Date.now()
  const verifier = new SvidVerifier()
  if (!verifier.verify(leaf, bundles, nowMs).ok) throw new Error('our own CA issues what is no SVID')
  const beside = 'SVID verdict, remembered'
  return [
    { name: beside, once: () => verifier.verify(leaf, bundles, nowMs) },
    { name: 'SVID verdict, first time', beside, once: () => verifySvid(leaf, bundles, nowMs) },
  ]
}
