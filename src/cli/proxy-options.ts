// The flags that gateway and sidecar, their launcher, supervisor and worker share. Each may also come as ISTHMUS_<FLAG>.
import { readFileSync } from 'node:fs'
import { isIPv4 } from 'node:net'
import { networkInterfaces } from 'node:os'
import { Command, Option } from 'commander'
import type { RevocationMode } from '../identity/revocation.ts'
import { fail, ok, type Result } from '../lib/result.ts'
import type { AccessLogFormat } from '../proxy/access-log-format.ts'
import { type Authority, parseAuthority } from '../proxy/names/authority.ts'
import { parseResolvConf } from '../proxy/names/resolv-conf.ts'
import type { SharedAddress } from '../proxy/process/shared-sockets.ts'
import type { NodeInfo } from '../xds/types.ts'
import { CREDENTIAL_FLAGS, type CredentialSpec, readCredentialFlags } from './credential-flags.ts'
import {
  parseDuration,
  readAccessLog,
  readBind,
  readBoolean,
  readCollector,
  readLevel,
  readRange,
  readRevocation,
  readRuntime,
  readShare,
  readSockets,
  readUpstreams,
  readWorkers,
} from './flag-values.ts'
import type { RuntimeChoice } from './runtime.ts'

/** Bad usage or configuration, as in sysexits.h. */
export const EXIT_USAGE = 64

export type ProxyKind = 'gateway' | 'sidecar'

interface Flag {
  readonly flag: string
  readonly about: string
  /** By kind where they differ; none = required. */
  readonly fallback?: string | Readonly<Record<ProxyKind, string>>
  readonly only?: ProxyKind
}

const FLAGS: readonly Flag[] = [
  {
    flag: 'config',
    about: 'an Envoy bootstrap in YAML or JSON: then who we are, discovery and certificates are in it',
    fallback: '',
  },
  { flag: 'cluster', about: 'id of this cluster' },
  { flag: 'name', about: "the gateway's or the client's name" },
  { flag: 'namespace', about: 'its namespace' },
  { flag: 'discovery', about: 'HOST:PORT of discovery, ADS over mutual TLS' },
  ...CREDENTIAL_FLAGS,
  {
    flag: 'federation',
    about:
      'folder with TRUST-DOMAIN.pem, .json (SPIFFE bundle) and .crl: trust domains that are decided about here',
    fallback: '',
  },
  {
    flag: 'revocation',
    about:
      'what a missing or expired CRL means: soft-fail, or hard-fail, which refuses whoever its CA signed',
    fallback: 'soft-fail',
  },
  {
    flag: 'allow-local-endpoints',
    about: 'true: endpoints may have loopback, link-local and metadata addresses; for development',
    fallback: 'false',
  },
  {
    flag: 'snapshot-max-age',
    about: 'a last good configuration that discovery confirmed longer ago is not started from',
    fallback: '24h',
  },
  { flag: 'run-dir', about: 'folder for sockets and the last good configuration' },
  {
    flag: 'bind',
    about: 'gateway: IP:PORT for mTLS; sidecar: range of loopback addresses, one for each service',
    fallback: { gateway: '0.0.0.0:15443', sidecar: '127.240.0.0/16' },
  },
  { flag: 'ip', about: 'our address in the node id; default: found', fallback: '' },
  { flag: 'network', about: 'the network that this pod is on, if it is known', fallback: '' },
  { flag: 'admin', about: 'IP:PORT of /status, /config_dump, /drain, …', fallback: '127.0.0.1:15000' },
  { flag: 'health', about: 'IP:PORT of /livez and /readyz', fallback: '0.0.0.0:15021' },
  { flag: 'metrics', about: 'IP:PORT of /metrics', fallback: '0.0.0.0:15020' },
  { flag: 'drain', about: 'how long connections may take to finish at the end', fallback: '45s' },
  {
    flag: 'access-log',
    about: 'json, text or off: one line on standard output for each connection, when it has ended',
    fallback: 'json',
  },
  {
    flag: 'drain-delay',
    about: 'how long it goes on as before at the end, not ready, for others to hear of it',
    fallback: { gateway: '5s', sidecar: '0s' },
  },
  {
    flag: 'workers',
    about: 'how many processes carry traffic: a number, or auto for one per core',
    fallback: { gateway: 'auto', sidecar: '1' },
  },
  {
    flag: 'runtime',
    about: 'what runs them: node, bun, or auto for bun where it is installed',
    fallback: 'node',
  },
  { flag: 'runtime-flags', about: 'flags of the runtime for them, by spaces', fallback: '' },
  {
    flag: 'otlp-endpoint',
    about: 'URL of an OpenTelemetry collector (OTLP/HTTP) that is sent a span for each connection',
    fallback: '',
  },
  { flag: 'otlp-sample', about: 'share of the connections that have one, 0 to 1', fallback: '1' },
  { flag: 'log-level', about: 'debug, info, warn, error', fallback: 'info' },
  { flag: 'dns', about: 'IP:PORT of the DNS server, or off', fallback: '127.0.0.1:15053', only: 'sidecar' },
  {
    flag: 'dns-upstream',
    about: 'IP:PORT,… of the resolvers for all other names; default: those of /etc/resolv.conf',
    fallback: '',
    only: 'sidecar',
  },
  { flag: 'socks', about: 'IP:PORT of SOCKS5, or off', fallback: '127.0.0.1:15080', only: 'sidecar' },
  { flag: 'connect', about: 'IP:PORT of HTTP CONNECT, or off', fallback: '127.0.0.1:15081', only: 'sidecar' },
]

/** Checked flags of one proxy. */
export interface ProxyConfig {
  readonly kind: ProxyKind
  /** An Envoy bootstrap; empty = none. With it node, cluster, discovery and credentials mean nothing. */
  readonly file: string
  readonly node: NodeInfo
  readonly name: string
  readonly cluster: string
  readonly discovery: string
  readonly credentials: CredentialSpec
  /** Folder; '' = none. */
  readonly federation: string
  readonly revocation: RevocationMode
  /** For one machine that plays a whole cluster. */
  readonly allowLocalEndpoints: boolean
  readonly runDirectory: string
  readonly snapshotMaxAgeMs: number
  readonly admin: Authority
  readonly health: Authority
  readonly metrics: Authority
  readonly drainMs: number
  readonly drainDelayMs: number
  readonly workers: number
  /** What all workers listen on together. */
  readonly listen: readonly SharedAddress[]
  readonly runtime: RuntimeChoice
  readonly runtimeFlags: readonly string[]
  readonly logLevel: string
  readonly accessLog: AccessLogFormat
  /** Undefined = no spans. */
  readonly otlp: { readonly endpoint: URL; readonly sample: number } | undefined
  /** Of a sidecar. */
  readonly names:
    | {
        readonly addresses: Readonly<Record<'dns' | 'socks' | 'connect', Authority | undefined>>
        readonly upstreams: readonly Authority[]
        readonly upstreamsGiven: boolean
      }
    | undefined
}

/** A command with the flags of one kind. `hidden` commands take the kind as their first word, then its flags. */
export function proxyCommand(name: string, about: string, kind: ProxyKind): Command {
  const command = new Command(`isthmus ${name}`).description(about)
  for (const { flag, about: text, fallback, only } of FLAGS) {
    if (only !== undefined && only !== kind) continue
    const option = new Option(`--${flag} <value>`, text).env(
      `ISTHMUS_${flag.toUpperCase().replaceAll('-', '_')}`,
    )
    const value = typeof fallback === 'object' ? fallback[kind] : fallback
    // An Envoy bootstrap has in it what we must otherwise be told.
    const needed = value === undefined && !isConfigured()
    command.addOption(needed ? option.makeOptionMandatory() : option.default(value ?? ''))
  }
  // Bad usage is 64 for everybody, so that a launcher does not start its child again.
  return command.exitOverride((error) => process.exit(error.exitCode === 0 ? 0 : EXIT_USAGE))
}

/** Adds `--validate`, for a command that a user starts. */
export function validatable(command: Command): Command {
  return command.option(
    '--validate',
    'only say whether --config is good: "OK", or its mistakes and exit code 64',
  )
}

/** Whether `--config` is among the flags, before they are read. */
function isConfigured(): boolean {
  const given = process.argv.some((word) => word === '--config' || word.startsWith('--config='))
  return given || (process.env['ISTHMUS_CONFIG'] ?? '') !== ''
}

/** The flags that were read, for a child: values from the environment and defaults are spelt out. */
export function flagsOf(command: Command): string[] {
  return Object.entries(command.opts<Record<string, string>>()).map(
    ([name, value]) => `--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}=${value}`,
  )
}

/** Checks what was read; exits with 64 and one line for each mistake. */
export function proxyConfig(kind: ProxyKind, command: Command): ProxyConfig {
  const flags = command.opts<Record<string, string>>()
  const file = flags['config'] ?? ''
  const reader = new FlagReader(file === '' ? flags : { ...flags, ...IN_THE_FILE })
  const config = { ...readConfig(kind, reader), ...(file !== '' && { cluster: '', listen: [] }) }
  if (reader.mistakes.length === 0) return config
  for (const mistake of reader.mistakes) process.stderr.write(`isthmus ${kind}: ${mistake}\n`)
  return process.exit(EXIT_USAGE)
}

/** Stands for what a bootstrap says itself; nobody reads it. */
const IN_THE_FILE = {
  cluster: 'bootstrap',
  name: 'bootstrap',
  namespace: 'bootstrap',
  discovery: '127.0.0.1:15012',
  certs: '/dev/null',
}

function readConfig(kind: ProxyKind, reader: FlagReader): ProxyConfig {
  const bind = kind === 'gateway' ? reader.read('bind', readBind) : reader.read('bind', readRange)
  const ip = reader.text('ip') || ownAddress(bind)
  const names = kind === 'sidecar' ? readNames(reader) : undefined
  const [cluster, name, namespace] = [reader.name('cluster'), reader.name('name'), reader.name('namespace')]
  const network = reader.text('network')
  return {
    kind,
    file: reader.text('config'),
    name,
    cluster,
    node: {
      id: `${kind === 'gateway' ? 'router' : 'sidecar'}~${ip}~${name}.${namespace}~${namespace}.svc.cluster.local`,
      cluster: name,
      metadata: {
        CLUSTER_ID: cluster,
        NAMESPACE: namespace,
        ISTHMUS_BIND: bind,
        ...(network !== '' && { NETWORK: network }),
      },
      locality: { region: '', zone: '' },
      userAgentName: 'isthmus',
    },
    discovery: reader.read('discovery', (text) => {
      const parsed = parseAuthority(text)
      return parsed.ok ? ok(text) : parsed
    }),
    credentials: reader.credentials(),
    federation: reader.text('federation'),
    revocation: reader.read('revocation', readRevocation),
    allowLocalEndpoints: reader.read('allow-local-endpoints', readBoolean),
    runDirectory: reader.text('run-dir'),
    snapshotMaxAgeMs: reader.read('snapshot-max-age', parseDuration),
    admin: reader.read('admin', parseAuthority),
    health: reader.read('health', parseAuthority),
    metrics: reader.read('metrics', parseAuthority),
    drainMs: reader.read('drain', parseDuration),
    drainDelayMs: reader.read('drain-delay', parseDuration),
    workers: reader.read('workers', readWorkers),
    listen: names === undefined ? reader.read('bind', readSockets) : socketsOf(names),
    runtime: reader.read('runtime', readRuntime),
    runtimeFlags: reader.text('runtime-flags').split(' ').filter(Boolean),
    logLevel: reader.read('log-level', readLevel),
    accessLog: reader.read('access-log', readAccessLog),
    otlp: readOtlp(reader),
    names,
  }
}

/** A port that is for the system to choose cannot be told apart from another such: those each worker binds. */
function socketsOf({ addresses }: NonNullable<ProxyConfig['names']>): SharedAddress[] {
  return Object.entries(addresses).flatMap(([name, at]: [string, Authority | undefined]) =>
    at === undefined || at.port === 0 ? [] : [{ ...at, datagrams: name === 'dns' }],
  )
}

function readOtlp(reader: FlagReader): ProxyConfig['otlp'] {
  const sample = reader.read('otlp-sample', readShare)
  const endpoint = reader.read('otlp-endpoint', readCollector)
  return endpoint && { endpoint, sample }
}

function readNames(reader: FlagReader): ProxyConfig['names'] {
  const door = (flag: string) =>
    reader.read<Authority | undefined>(flag, (text) =>
      text === 'off' ? ok(undefined) : parseAuthority(text),
    )
  const upstreams = reader.read('dns-upstream', readUpstreams)
  return {
    addresses: { dns: door('dns'), socks: door('socks'), connect: door('connect') },
    upstreams: upstreams ?? systemResolvers(),
    upstreamsGiven: upstreams !== undefined,
  }
}

/** Reads flag by flag and remembers every mistake, so that one start reports them all. */
class FlagReader {
  readonly mistakes: string[] = []
  readonly #values: Readonly<Record<string, string>>

  constructor(values: Readonly<Record<string, string>>) {
    this.#values = values
  }

  text(flag: string): string {
    return this.#values[flag.replace(/-([a-z])/g, (_, letter: string) => letter.toUpperCase())] ?? ''
  }

  /** The value that a mistake stands for is never used: the caller ends first. */
  read<T>(flag: string, parse: (text: string) => Result<T, string>): T {
    const parsed = parse(this.text(flag))
    if (!parsed.ok) this.mistakes.push(`--${flag}: ${parsed.error}`)
    return parsed.ok ? parsed.value : (undefined as T)
  }

  credentials(): CredentialSpec {
    const text = (flag: string) => this.text(flag)
    const spec = readCredentialFlags({
      certs: text('certs'),
      credentials: text('credentials'),
      caRoot: text('ca-root'),
      caToken: text('ca-token'),
      spiffeId: text('spiffe-id'),
    })
    if (!spec.ok) this.mistakes.push(spec.error)
    return spec.ok ? spec.value : (undefined as never)
  }

  name(flag: string): string {
    return this.read(flag, (text) =>
      /^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$/.test(text)
        ? ok(text)
        : fail(`${JSON.stringify(text)} is no name: lower-case letters, digits, "-" and "."`),
    )
  }
}

function systemResolvers(): Authority[] {
  try {
    return parseResolvConf(readFileSync('/etc/resolv.conf', 'utf8'))
  } catch {
    return []
  }
}

/** The address we are bound to, else the first that others could reach us at. */
function ownAddress(bind: string | undefined): string {
  const bound = parseAuthority(bind ?? '')
  if (bound.ok && isIPv4(bound.value.host) && bound.value.host !== '0.0.0.0') return bound.value.host
  const all = Object.values(networkInterfaces()).flatMap((addresses) => addresses ?? [])
  return all.find(({ family, internal }) => family === 'IPv4' && !internal)?.address ?? '127.0.0.1'
}
