import forge from 'node-forge'
import { fail, type Problem, problem, type Result } from '../lib/result.ts'
import { Ca } from './ca.ts'
import { type CaCertificate, parseCaCertificate } from './ca-certificate.ts'
import { readCa } from './ca-folder.ts'
import { openPrivateKey } from './credential.ts'
import { parseCertificatesPem } from './pem.ts'

// node-forge's place: RSA keys in the forms Istio's tools write, and PKCS#12, which Node cannot read. It knows no EC keys
// and it verifies nothing here: chains and signatures are OpenSSL's (forge took leaves for CAs, CVE-2026-33896).

/** Reads Istio's plugged-in `cacerts` (`ca-cert.pem`, `ca-key.pem`, `root-cert.pem`, `cert-chain.pem`), RSA or EC. */
export async function importCacerts(folder: string, trustDomain: string): Promise<Result<Ca, Problem>> {
  return readCa(folder, trustDomain, (pem) => rsaKeyToPkcs8(pem) ?? pem)
}

/**
 * An RSA private key in PEM, PKCS#1 (`BEGIN RSA PRIVATE KEY`) or PKCS#8, as PKCS#8; undefined when it is no RSA key that
 * node-forge can read (an EC key, for one).
 */
export function rsaKeyToPkcs8(pem: string): string | undefined {
  try {
    const key = forge.pki.privateKeyFromPem(pem)
    return toPkcs8(key)
  } catch {
    return undefined
  }
}

function toPkcs8(key: forge.pki.PrivateKey): string {
  const info = forge.pki.wrapRsaPrivateKey(forge.pki.privateKeyToAsn1(key))
  return forge.pki.privateKeyInfoToPem(info).replace(/\r\n/g, '\n')
}

/**
 * Reads an RSA CA from a PKCS#12 file that holds its key, its certificate and the chain up to the root. `object` names
 * the file in errors.
 */
export function importPkcs12(
  bytes: Uint8Array,
  password: string,
  trustDomain: string,
  object: string,
): Result<Ca, Problem> {
  const opened = openPkcs12(bytes, password)
  if (opened === undefined) {
    return fail(problem(object, '', 'not a PKCS#12 file with an RSA key, or the password is wrong'))
  }
  const cas: CaCertificate[] = []
  const blocks = parseCertificatesPem(opened.certificatesPem)
  for (const [index, block] of blocks.ok ? blocks.value.entries() : []) {
    const ca = parseCaCertificate(block)
    if (!ca.ok) return fail(problem(object, `certificate ${index + 1}`, ca.error))
    cas.push(ca.value)
  }
  const key = openPrivateKey(opened.keyPem)
  const issuer = cas.find(({ x509 }) => key !== undefined && x509.checkPrivateKey(key))
  if (issuer === undefined) return fail(problem(object, '', 'holds no certificate for its key'))
  const rootPem = cas.flatMap(({ root, pem }) => (root ? [pem] : [])).join('')
  if (rootPem === '')
    return fail(problem(object, '', 'holds no self-signed root; put the whole chain into it'))
  const parts = { trustDomain, issuerPem: issuer.pem, issuerKeyPem: opened.keyPem, rootPem }
  return Ca.fromParts({ ...parts, chainPem: opened.certificatesPem }, object)
}

function openPkcs12(
  bytes: Uint8Array,
  password: string,
): { readonly keyPem: string; readonly certificatesPem: string } | undefined {
  try {
    const container = forge.pkcs12.pkcs12FromAsn1(
      forge.asn1.fromDer(Buffer.from(bytes).toString('latin1')),
      password,
    )
    const bags = (type: string) => container.getBags({ bagType: type })[type] ?? []
    const { pkcs8ShroudedKeyBag = '', keyBag = '', certBag = '' } = forge.pki.oids
    const key = [...bags(pkcs8ShroudedKeyBag), ...bags(keyBag)].find((bag) => bag.key)?.key
    const certificates = bags(certBag).flatMap(({ cert }) => (cert ? [forge.pki.certificateToPem(cert)] : []))
    const certificatesPem = certificates.join('').replace(/\r\n/g, '\n')
    return key ? { keyPem: toPkcs8(key), certificatesPem } : undefined
  } catch {
    return undefined
  }
}
