// A gateway and a service of its own for `isthmus bench` without a target: the gateway is `isthmus gateway` with its launcher,
// supervisor and one worker, out of an Envoy bootstrap, with identities that are made for it and go with it.
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createCa } from '../identity/ca.ts'
import { accepts, freePort } from '../lib/loopback-port.ts'
import { Backend } from '../load/backend.ts'
import type { LoadTarget } from '../load/plan.ts'

const TRUST_DOMAIN = 'bench.local'
const SERVER_NAME = 'outbound_.80_._.backend.bench.svc.cluster.local'
const LIFETIME_MS = 24 * 3_600_000
/** How long its processes may take to serve. */
const START_MS = 30_000
const POLL_MS = 20

/**
 * Throws where it does not serve within 30 s, with the last that it said. `runtime`: of its worker. `onUndo` is told how to take away
 * what there is so far, step by step: the last first.
 */
export async function startOwnGateway(
  runtime: 'node' | 'bun',
  onUndo: (undo: () => Promise<void>) => void,
): Promise<LoadTarget> {
  const ca = await createCa({ trustDomain: TRUST_DOMAIN })
  const lifetimeMs = LIFETIME_MS
  const gateway = await ca.issue({ namespace: 'bench', serviceAccount: 'eastwest', lifetimeMs })
  const client = await ca.issue({ namespace: 'bench', serviceAccount: 'client', lifetimeMs })
  const folder = mkdtempSync(join(tmpdir(), 'isthmus-bench-own-'))
  onUndo(async () => rmSync(folder, { recursive: true, force: true }))
  const backend = await Backend.start({ host: '127.0.0.1', port: 0 })
  onUndo(() => backend.stop())
  const file = (name: string, content: string): string => {
    writeFileSync(join(folder, name), content, { mode: 0o600 })
    return join(folder, name)
  }
  const port = await freePort()
  const bootstrap = bootstrapOf(port, backend.port, {
    certificate: file('tls.crt', gateway.certificatePem),
    key: file('tls.key', gateway.privateKeyPem),
    ca: file('ca.crt', ca.bundlePem),
  })
  const child = spawnGateway(file('envoy.json', JSON.stringify(bootstrap)), join(folder, 'run'), runtime)
  onUndo(() => endOf(child))
  await serving(child, port)
  const { certificatePem, privateKeyPem } = client
  const serverNames = [SERVER_NAME]
  const tls = { serverNames, certificatePem, privateKeyPem, caPem: ca.bundlePem, expectedIds: [gateway.id] }
  return { address: '127.0.0.1', port, tls }
}

function spawnGateway(config: string, runDirectory: string, runtime: string): ChildProcess {
  const ephemeral = ['--admin', '--health', '--metrics'].flatMap((flag) => [flag, '127.0.0.1:0'])
  const args = [
    ...process.execArgv,
    process.argv[1] ?? '',
    ...['gateway', '--config', config, '--run-dir', runDirectory, '--runtime', runtime, '--workers', '1'],
    ...['--allow-local-endpoints', 'true', '--drain-delay', '0s', '--drain', '1s', '--access-log', 'off'],
    ...ephemeral,
  ]
  return spawn(process.execPath, args, {
    // The fourth is a pair of sockets whose end tells the gateway that we are gone, however we went.
    stdio: ['ignore', 'pipe', 'pipe', 'pipe'],
    env: { ...process.env, ISTHMUS_LIFELINE_FD: '3' },
  })
}

/** Resolves when it accepts: until a worker serves, its port refuses. */
async function serving(child: ChildProcess, port: number): Promise<void> {
  let said = ''
  const hear = (text: Buffer) => {
    said = `${said}${text}`.slice(-1_000)
  }
  child.stdout?.on('data', hear)
  child.stderr?.on('data', hear)
  const until = performance.now() + START_MS
  while (!(await accepts(port))) {
    const ended = child.exitCode ?? child.signalCode
    if (ended !== null || performance.now() > until) {
      const why = ended === null ? 'does not serve' : `ended with ${ended}`
      throw new Error(`the gateway ${why}: ${said.trim().split('\n').slice(-2).join(' / ')}`)
    }
    await new Promise((later) => setTimeout(later, POLL_MS))
  }
}

async function endOf(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const gone = once(child, 'exit')
  child.kill('SIGTERM')
  await gone
}

const TYPES = 'type.googleapis.com/envoy'
const socketAddress = (port: number) => ({ socket_address: { address: '127.0.0.1', port_value: port } })

interface Files {
  readonly certificate: string
  readonly key: string
  readonly ca: string
}

function bootstrapOf(port: number, backendPort: number, files: Files): object {
  return {
    node: { id: 'bench', cluster: 'bench' },
    static_resources: {
      listeners: [{ name: 'eastwest', address: socketAddress(port), filter_chains: [filterChain(files)] }],
      clusters: [
        {
          name: SERVER_NAME,
          type: 'STATIC',
          connect_timeout: '5s',
          lb_policy: 'LEAST_REQUEST',
          // The default of 1,024 connections is less than a load may hold.
          circuit_breakers: {
            thresholds: [{ max_connections: 100_000, max_pending_requests: 100_000 }],
          },
          load_assignment: {
            cluster_name: SERVER_NAME,
            endpoints: [{ lb_endpoints: [{ endpoint: { address: socketAddress(backendPort) } }] }],
          },
        },
      ],
    },
  }
}

function filterChain({ certificate, key, ca }: Files): object {
  const everyone = { authenticated: { principal_name: { prefix: `spiffe://${TRUST_DOMAIN}/` } } }
  const policies = { bench: { permissions: [{ any: true }], principals: [everyone] } }
  const filter = (name: string, type: string, config: object = {}) => ({
    name: `envoy.filters.network.${name}`,
    typed_config: { '@type': `${TYPES}.extensions.filters.network.${type}`, ...config },
  })
  const bundle = { name: TRUST_DOMAIN, trust_bundle: { filename: ca } }
  return {
    name: 'terminate',
    filter_chain_match: { transport_protocol: 'tls' },
    transport_socket: {
      name: 'envoy.transport_sockets.tls',
      typed_config: {
        '@type': `${TYPES}.extensions.transport_sockets.tls.v3.DownstreamTlsContext`,
        require_client_certificate: true,
        disable_stateful_session_resumption: true,
        disable_stateless_session_resumption: true,
        common_tls_context: {
          tls_certificates: [
            { certificate_chain: { filename: certificate }, private_key: { filename: key } },
          ],
          validation_context: {
            custom_validator_config: {
              name: 'envoy.tls.cert_validator.spiffe',
              typed_config: {
                '@type': `${TYPES}.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig`,
                trust_domains: [bundle],
              },
            },
          },
        },
      },
    },
    filters: [
      filter('rbac', 'rbac.v3.RBAC', { stat_prefix: 'bench.', rules: { action: 'ALLOW', policies } }),
      filter('sni_cluster', 'sni_cluster.v3.SniCluster'),
      filter('tcp_proxy', 'tcp_proxy.v3.TcpProxy', { stat_prefix: 'eastwest', cluster: 'BlackHole' }),
    ],
  }
}
