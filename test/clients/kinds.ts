// The xDS clients that exist, as a user starts each: with the bootstrap of docs/CLIENTS.md. A kind whose program is not on this machine is
// left out and says why; where CI is set it never is.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { formatSpiffeBundleMap } from '../../src/identity/spiffe-bundle.ts'
import { writeFileAtomic } from '../../src/identity/write-file.ts'
import { bindAddresses, parseBindRange } from '../../src/resources/bind-address.ts'
import type { Scope } from '../process/logged-process.ts'
import { Caller, METHOD } from './caller.ts'
import { example } from './examples.ts'
import { bindRange, type World } from './world.ts'

const HOST = 'productpage.bookinfo.svc.cluster.local'
const TARGET = 'xds:///productpage.bookinfo:9080'
const CANONICAL = `outbound_.9080_._.${HOST}`
const NODE_CLIENT = [process.execPath, join(import.meta.dirname, 'grpc-js/main.ts')]
/** gRFC A87: the CAs of each trust domain vouch for that alone. */
const BY_TRUST_DOMAIN = { GRPC_EXPERIMENTAL_XDS_MTLS_SPIFFE: 'true' }
const FOLDER = '/var/run/secrets/isthmus'

export interface Kind {
  readonly name: string
  /** What it calls itself. */
  readonly userAgent: RegExp
  /** The server name that it sends to a gateway. */
  readonly sni: string
  /** The environment variable that names its program; absent: it is there. */
  readonly needs?: string
  start(scope: Scope, world: World, folder: string, pod: string): Promise<Caller>
}

/** Why a kind is left out, or false. */
export function missing({ name, needs }: Kind): string | false {
  if (needs === undefined || process.env[needs] !== undefined || process.env['CI'] !== undefined) return false
  return `${needs} is not set, which says where ${name} is`
}

const program = (name: string): string => {
  const path = process.env[name]
  if (path === undefined) throw new Error(`${name} is not set`)
  return path
}

/** Its bootstrap, over mutual TLS. */
async function grpcBootstrap(world: World, folder: string, pod: string): Promise<string> {
  const file = join(folder, 'bootstrap.json')
  const values = {
    'isthmus-discovery.isthmus-system.svc:15012': `localhost:${world.calling.ads}`,
    'sleep-5d9c': pod,
    [FOLDER]: folder,
    '60s': '0.2s',
  }
  await writeFile(file, example('grpc.json', values))
  return file
}

const envoy = (name: string, index: number, api: 'DELTA_GRPC' | 'GRPC'): Kind => ({
  name,
  userAgent: /^envoy$/,
  sni: CANONICAL,
  needs: 'ENVOY_BIN',
  async start(scope, world, folder, pod) {
    const cidr = bindRange(index)
    const range = parseBindRange(cidr)
    if (!range.ok) throw new Error(range.error)
    const [bootstrap, sds] = [join(folder, 'envoy.yaml'), join(folder, 'sds.yaml')]
    const address = bindAddresses([HOST], range.value).get(HOST)
    const values = {
      'address: isthmus-discovery.isthmus-system.svc, port_value: 15012': `address: 127.0.0.1, port_value: ${world.calling.ads}`,
      'api_type: DELTA_GRPC': `api_type: ${api}`,
      '127.240.0.0/16': cidr,
      '127.0.0.1:15053': `${address}:15053`,
      '/etc/envoy/sds.yaml': sds,
      'sleep-5d9c': pod,
      [FOLDER]: folder,
    }
    await writeFile(bootstrap, example('envoy.yaml', values))
    await writeFile(sds, example('sds.yaml', { [FOLDER]: folder }))
    const flags = ['--disable-hot-restart', '--concurrency', '1', '-l', 'warn']
    const proxy = spawn(program('ENVOY_BIN'), ['-c', bootstrap, ...flags], { stdio: 'ignore' })
    const gone = once(proxy, 'exit')
    scope.teardown(async () => {
      proxy.kill('SIGKILL')
      await gone
    })
    return new Caller(scope, name, [...NODE_CLIENT, `${address}:9080`, METHOD])
  },
})

export const KINDS: readonly Kind[] = [
  {
    name: 'grpc-js',
    userAgent: /^gRPC Node Pure JS$/,
    sni: 'productpage.bookinfo',
    async start(scope, world, folder, pod) {
      const file = join(folder, 'bootstrap.json')
      const values = {
        '127.0.0.1:15010': `127.0.0.1:${world.calling.adsPlain}`,
        'sleep-5d9c': pod,
        [FOLDER]: folder,
        '60s': '0.2s',
      }
      await writeFile(file, example('grpc-js.json', values))
      return new Caller(scope, this.name, [...NODE_CLIENT, TARGET, METHOD], { GRPC_XDS_BOOTSTRAP: file })
    },
  },
  {
    name: 'grpc-go',
    userAgent: /^gRPC Go$/,
    sni: CANONICAL,
    needs: 'GRPC_GO_CLIENT',
    async start(scope, world, folder, pod) {
      const file = await grpcBootstrap(world, folder, pod)
      const env = { GRPC_XDS_BOOTSTRAP: file, GRPC_EXPERIMENTAL_XDS_SNI: 'true', ...BY_TRUST_DOMAIN }
      return new Caller(scope, this.name, [program('GRPC_GO_CLIENT'), TARGET, METHOD], env)
    },
  },
  {
    name: 'grpcio',
    userAgent: /^gRPC C-core /,
    sni: CANONICAL,
    needs: 'GRPCIO_PYTHON',
    async start(scope, world, folder, pod) {
      const file = await grpcBootstrap(world, folder, pod)
      const argv = [program('GRPCIO_PYTHON'), join(import.meta.dirname, 'grpcio/main.py'), TARGET, METHOD]
      return new Caller(scope, this.name, argv, { GRPC_XDS_BOOTSTRAP: file, ...BY_TRUST_DOMAIN })
    },
  },
  envoy('Envoy, Delta', 0, 'DELTA_GRPC'),
  envoy('Envoy, state of the world', 1, 'GRPC'),
]

/** A client of cluster-2, known by a service account of its own, with the CAs of the gateways that it may call. */
export interface Client {
  readonly kind: Kind
  readonly pod: string
  readonly caller: Caller
  /** A new certificate, for another service account, where it looks for it. */
  renew(): Promise<void>
  /** The CAs that the clusters have now. */
  trust(): Promise<void>
}

export async function startClient(scope: Scope, world: World, kind: Kind): Promise<Client> {
  const pod = kind.name.toLowerCase().replaceAll(/[^a-z0-9]+/g, '-')
  const folder = await world.calling.certify(pod, 'bookinfo', pod)
  const { serving, calling } = world
  const trust = async () => {
    await writeFileAtomic(join(folder, 'gateways.crt'), serving.bundlePem + calling.bundlePem, 0o644)
    const map = formatSpiffeBundleMap([serving.bundle, calling.bundle])
    await writeFileAtomic(join(folder, 'gateways.json'), map, 0o644)
  }
  await trust()
  const caller = await kind.start(scope, world, folder, pod)
  return {
    kind,
    pod,
    caller,
    trust,
    renew: async () => void (await world.calling.certify(pod, 'bookinfo', `${pod}-2`)),
  }
}
