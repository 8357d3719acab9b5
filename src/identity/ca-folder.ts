import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fail, type Problem, problem, type Result } from '../lib/result.ts'
import { Ca, type Issued } from './ca.ts'
import { PRIVATE, PUBLIC, writeFileAtomic } from './write-file.ts'

/**
 * A CA in a folder, under the names of Istio's `cacerts` Secret, so that the same folder can be given to istiod:
 * `ca-cert.pem`, `ca-key.pem`, `root-cert.pem`, `cert-chain.pem`; and ours: `root-key.pem` (keep it somewhere safe; nothing
 * needs it until the next intermediate) and `trust-domain`.
 */
export async function saveCa(ca: Ca, folder: string): Promise<void> {
  const write = (name: string, content: string, mode: number) =>
    writeFileAtomic(join(folder, name), content, mode)
  if (ca.rootKeyPem !== undefined) await write('root-key.pem', ca.rootKeyPem, PRIVATE)
  await write('ca-key.pem', ca.issuerKeyPem, PRIVATE)
  await write('root-cert.pem', ca.rootPem, PUBLIC)
  // Istio wants the root at the end of the chain file.
  await write('cert-chain.pem', ca.chainPem + ca.rootPem, PUBLIC)
  await write('trust-domain', `${ca.trustDomain}\n`, PUBLIC)
  await write('ca-cert.pem', ca.issuerPem, PUBLIC)
}

/** Reads what `saveCa` wrote. An Istio `cacerts` folder has no `trust-domain` file: `importCacerts` takes it. */
export async function loadCa(folder: string): Promise<Result<Ca, Problem>> {
  const text = await readText(folder, 'trust-domain')
  if (text === undefined) {
    return fail(
      problem(
        folder,
        'trust-domain',
        'no such file; is this a folder made by "isthmus certs init" or "import"?',
      ),
    )
  }
  return readCa(folder, text.trim(), (key) => key)
}

/** The shared part of loading and importing; `convertKey` may turn a key into PKCS#8. */
export async function readCa(
  folder: string,
  trustDomain: string,
  convertKey: (pem: string) => string,
): Promise<Result<Ca, Problem>> {
  const [issuerPem, issuerKeyPem, rootPem] = await Promise.all([
    readText(folder, 'ca-cert.pem'),
    readText(folder, 'ca-key.pem'),
    readText(folder, 'root-cert.pem'),
  ])
  const missing = (name: string) => fail(problem(folder, name, 'no such file'))
  if (issuerPem === undefined) return missing('ca-cert.pem')
  if (issuerKeyPem === undefined) return missing('ca-key.pem')
  if (rootPem === undefined) return missing('root-cert.pem')
  const [chainPem, rootKeyPem] = await Promise.all([
    readText(folder, 'cert-chain.pem'),
    readText(folder, 'root-key.pem'),
  ])
  const parts = { trustDomain, issuerPem, issuerKeyPem: convertKey(issuerKeyPem), rootPem }
  return Ca.fromParts({ ...parts, ...(chainPem && { chainPem }), ...(rootKeyPem && { rootKeyPem }) }, folder)
}

/**
 * Writes a credential as a mounted Secret has it: `tls.crt` (leaf and intermediates), `tls.key` (0600), `ca.crt` (the
 * bundle of its own trust domain). The certificate comes last: whoever watches sees a pair that does not fit until then,
 * and keeps the one it has.
 */
export async function writeCredential(
  folder: string,
  credential: Pick<Issued, 'certificatePem' | 'privateKeyPem'> & { readonly bundlePem: string },
): Promise<void> {
  await writeFileAtomic(join(folder, 'tls.key'), credential.privateKeyPem, PRIVATE)
  await writeFileAtomic(join(folder, 'ca.crt'), credential.bundlePem, PUBLIC)
  await writeFileAtomic(join(folder, 'tls.crt'), credential.certificatePem, PUBLIC)
}

async function readText(folder: string, name: string): Promise<string | undefined> {
  try {
    return await readFile(join(folder, name), 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
}
