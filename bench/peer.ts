// The peers: programs that others use for this job, each with its configuration from `peers/`.
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { accepts, freePort } from '../src/lib/loopback-port.ts'
import type { Job } from './job.ts'
import { lastWords, onPath, type Spawned, spawnLogged } from './spawn.ts'

const here = dirname(fileURLToPath(import.meta.url))

export interface Peer {
  readonly name: string
  /** Of the program; throws a sentence that names what is missing. */
  version(): string
  /** TLS library that it runs with. */
  library(): string
  readonly spawn: (job: Job, folder: string, prefix: readonly string[]) => Promise<Spawned>
}

export const ENVOY: Peer = {
  name: 'envoy',
  version: () => matched(said(envoy(), '--version'), /\/(\d+\.\d+\.\d+)\//),
  library: () => matched(said(envoy(), '--version'), /\/([^/\s]+)\s*$/),
  spawn: (job, folder, prefix) =>
    start(job, folder, prefix, 'envoy.yaml', envoy(), (config) => [
      ...['-c', config, '--concurrency', '1', '--disable-hot-restart', '-l', 'error'],
    ]),
}

export const HAPROXY: Peer = {
  name: 'haproxy',
  version: () => matched(said(haproxy(), '-v'), /version (\S+)/),
  library: () => matched(said(haproxy(), '-vv'), /^Running on OpenSSL version : (\S+ \S+)/m),
  spawn: (job, folder, prefix) =>
    start(job, folder, prefix, 'haproxy.cfg', haproxy(), (config) => ['-db', '-f', config]),
}

export const NGINX: Peer = {
  name: 'nginx',
  version: () => {
    const version = matched(said(nginx(), '-v'), /nginx\/(\S+)/)
    nginxStreamModule()
    return version
  },
  library: () => {
    const text = said(nginx(), '-V')
    return matched(text, /running with (\S+ \S+)/) || matched(text, /built with (\S+ \S+)/)
  },
  spawn: (job, folder, prefix) =>
    start(
      job,
      folder,
      prefix,
      'nginx.conf',
      nginx(),
      (config) => ['-p', folder, '-c', config, '-e', 'stderr'],
      {
        LOAD_STREAM: nginxStreamModule(),
        FOLDER: folder,
      },
    ),
}

// Another build than the system's, with another TLS library for example: ENVOY_BIN, HAPROXY_BIN, NGINX_BIN.
const envoy = (): string => program('envoy', 'ENVOY_BIN')
const haproxy = (): string => program('haproxy', 'HAPROXY_BIN')
const nginx = (): string => program('nginx', 'NGINX_BIN')

/** The directive that loads `stream`; empty where it is built in. */
function nginxStreamModule(): string {
  const options = said(nginx(), '-V')
  if (/--with-stream(\s|$)/.test(options)) return ''
  const file = join(matched(options, /--modules-path=(\S+)/), 'ngx_stream_module.so')
  if (!existsSync(file)) throw new Error(`${file} is not there (Debian: libnginx-mod-stream)`)
  return `load_module ${file};`
}

function program(command: string, variable: string): string {
  const found = process.env[variable] || onPath(command)
  if (found === undefined) throw new Error(`${variable} is not set and \`${command}\` is not on PATH`)
  return found
}

function said(command: string, option: string): string {
  const { error, stdout, stderr } = spawnSync(command, [option], { encoding: 'utf8' })
  if (error !== undefined) throw error
  return stdout + stderr
}

function matched(text: string, pattern: RegExp): string {
  return pattern.exec(text)?.[1] ?? ''
}

/** On a port that was free a moment ago, with the names in its configuration filled in. */
async function start(
  job: Job,
  folder: string,
  prefix: readonly string[],
  template: string,
  command: string,
  args: (config: string) => readonly string[],
  more: Readonly<Record<string, string>> = {},
): Promise<Spawned> {
  const port = await freePort()
  const file = (name: string, content: string): string => {
    writeFileSync(join(folder, name), content, { mode: 0o600 })
    return join(folder, name)
  }
  const values: Readonly<Record<string, string | number>> = {
    PORT: port,
    BACKEND_PORT: job.backendPort,
    SERVER_NAME: job.serverName,
    TRUST_DOMAIN: job.trustDomain,
    CERTIFICATE_FILE: file('tls.crt', job.certificatePem),
    KEY_FILE: file('tls.key', job.privateKeyPem),
    COMBINED_FILE: file('tls.pem', `${job.certificatePem}\n${job.privateKeyPem}`),
    CA_FILE: file('ca.crt', job.caPem),
    ...more,
  }
  const text = readFileSync(join(here, 'peers', template), 'utf8')
  // Comments may speak of ${NAMES} in general.
  const config = file(
    template,
    text.replace(/\$\{(\w+)\}/g, (whole, name: string) => String(values[name] ?? whole)),
  )
  const child = spawnLogged([...prefix, command, ...args(config)], folder, 'ignore')
  let exited: string | undefined
  child.once('error', (error) => {
    exited = error.message
  })
  child.once('exit', (code) => {
    exited = `it ended with ${code}`
  })
  while (!(await accepts(port))) {
    if (exited !== undefined) throw new Error(`${command}: ${exited}${lastWords(folder)}`)
    await new Promise((later) => setTimeout(later, 20))
  }
  return { child, port }
}
