// Must come before @peculiar/x509, whose dependency container needs it.
import 'reflect-metadata'
import { createPrivateKey, webcrypto } from 'node:crypto'
import * as x509 from '@peculiar/x509'

export interface CertificateRequest {
  /** PKCS#10. */
  readonly csrPem: string
  /** PKCS#8. */
  readonly privateKeyPem: string
}

/** A new EC P-256 key, and a request for a certificate with the SPIFFE id as its one URI SAN (RFC 2986). */
export async function createCertificateRequest(id: string): Promise<CertificateRequest> {
  const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' }
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ['sign', 'verify'])
  const csr = await x509.Pkcs10CertificateRequestGenerator.create({
    keys: keys as never,
    signingAlgorithm: algorithm,
    extensions: [new x509.SubjectAlternativeNameExtension([{ type: 'url', value: id }], true)],
  })
  const der = Buffer.from(await webcrypto.subtle.exportKey('pkcs8', keys.privateKey))
  const key = createPrivateKey({ key: der, format: 'der', type: 'pkcs8' })
  return {
    csrPem: `${csr.toString('pem')}\n`,
    privateKeyPem: key.export({ type: 'pkcs8', format: 'pem' }).toString(),
  }
}
