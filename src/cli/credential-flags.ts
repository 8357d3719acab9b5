import { DiscoveryCredentials } from '../credentials/discovery-credentials.ts'
import { IstioCaCredentials } from '../credentials/istio-ca-credentials.ts'
import { SdsCredentials } from '../credentials/sds-credentials.ts'
import { CredentialFiles } from '../identity/credential-files.ts'
import type { CredentialSource } from '../identity/identity.ts'
import { parseSpiffeId } from '../identity/spiffe-id.ts'
import type { Logger } from '../lib/log.ts'
import { fail, ok, type Result } from '../lib/result.ts'
import type { NodeInfo } from '../xds/types.ts'

/** The flags that say where our own credential comes from, as they were typed; '' = not given. */
export interface CredentialFlags {
  readonly certs: string
  readonly credentials: string
  readonly caRoot: string
  readonly caToken: string
  readonly spiffeId: string
}

/** Their names, and what they are about; `certs` is the short form of `credentials` for files. */
export const CREDENTIAL_FLAGS = [
  {
    flag: 'certs',
    about: 'folder with tls.crt, tls.key, ca.crt and perhaps ca.crl: --credentials files:FOLDER',
    fallback: '',
  },
  {
    flag: 'credentials',
    about:
      'our own credential: files:FOLDER, sds:unix:SOCKET[,CERTIFICATE[,TRUST]], istio-ca:HOST:PORT or discovery:HOST:PORT,FOLDER',
    fallback: '',
  },
  {
    flag: 'ca-root',
    about: "istio-ca: file with the roots of the CA's own certificate",
    fallback: '/var/run/secrets/istio/root-cert.pem',
  },
  {
    flag: 'ca-token',
    about: 'istio-ca: file with our token',
    fallback: '/var/run/secrets/tokens/istio-token',
  },
  { flag: 'spiffe-id', about: 'istio-ca: the SPIFFE id to ask for', fallback: '' },
] as const

/** Where the credential comes from. */
export type CredentialSpec =
  | { readonly kind: 'files'; readonly directory: string }
  | { readonly kind: 'discovery'; readonly address: string; readonly directory: string }
  | {
      readonly kind: 'sds'
      readonly path: string
      readonly certificateName: string
      readonly trustName: string
    }
  | {
      readonly kind: 'istio-ca'
      readonly address: string
      readonly rootFile: string
      readonly tokenFile: string
      readonly id: string
    }

/** Checks the flags; the error begins with the flag at fault. */
export function readCredentialFlags(flags: CredentialFlags): Result<CredentialSpec, string> {
  const { certs, credentials } = flags
  if (certs !== '' && credentials !== '') return fail('--credentials: --certs is given too; give one of them')
  if (certs !== '') return ok({ kind: 'files', directory: certs })
  if (credentials === '')
    return fail('--credentials: where does our own certificate come from? (or --certs FOLDER)')
  const colon = credentials.indexOf(':')
  const [scheme, rest] = [credentials.slice(0, colon), credentials.slice(colon + 1)]
  switch (scheme) {
    case 'files':
      return rest === ''
        ? fail('--credentials files: expected a folder')
        : ok({ kind: 'files', directory: rest })
    case 'sds':
      return readSds(rest)
    case 'istio-ca':
      return readIstioCa(rest, flags)
    case 'discovery':
      return readDiscovery(rest)
    default:
      return fail(`--credentials: expected files:…, sds:…, istio-ca:… or discovery:…, found "${credentials}"`)
  }
}

function readSds(text: string): Result<CredentialSpec, string> {
  const [, path = '', names = ''] = /^unix:([^,]+)(?:,(.*))?$/.exec(text) ?? []
  const [certificateName = '', trustName = '', ...more] =
    names === '' ? ['default', 'ROOTCA'] : names.split(',')
  if (path === '' || certificateName === '' || more.length > 0)
    return fail(`--credentials sds: expected unix:SOCKET[,CERTIFICATE[,TRUST]], found "${text}"`)
  return ok({ kind: 'sds', path, certificateName, trustName: trustName === '' ? 'ROOTCA' : trustName })
}

function readDiscovery(text: string): Result<CredentialSpec, string> {
  const comma = text.indexOf(',')
  const [address, directory] = [text.slice(0, comma), text.slice(comma + 1)]
  return comma > 0 && directory !== '' && ADDRESS.test(address)
    ? ok({ kind: 'discovery', address, directory })
    : fail(`--credentials discovery: expected HOST:PORT,FOLDER, found "${text}"`)
}

const ADDRESS = /^(\[[0-9a-fA-F:.]+\]|[^:]+):[1-9]\d{0,4}$/

function readIstioCa(address: string, flags: CredentialFlags): Result<CredentialSpec, string> {
  if (!ADDRESS.test(address)) return fail(`--credentials istio-ca: expected HOST:PORT, found "${address}"`)
  const id = parseSpiffeId(flags.spiffeId)
  if (!id.ok)
    return fail(`--spiffe-id: istio-ca needs the id to ask for, found "${flags.spiffeId}": ${id.error}`)
  if (id.value.path === '') return fail(`--spiffe-id: "${flags.spiffeId}" names no workload`)
  return ok({ kind: 'istio-ca', address, rootFile: flags.caRoot, tokenFile: flags.caToken, id: id.value.uri })
}

export interface OpenCredentials {
  /** Who we say we are to an SDS server. */
  readonly node: NodeInfo
  readonly cluster: string
  readonly logger: Logger
}

/** The source itself, not started yet. */
export function openCredentials(
  spec: CredentialSpec,
  { node, cluster, logger }: OpenCredentials,
): CredentialSource {
  switch (spec.kind) {
    case 'files':
      return new CredentialFiles({ directory: spec.directory, logger })
    case 'sds':
      return new SdsCredentials({ ...spec, node, logger })
    case 'discovery':
      return new DiscoveryCredentials({ ...spec, node, logger })
    case 'istio-ca':
      return new IstioCaCredentials({ ...spec, cluster, logger })
  }
}
