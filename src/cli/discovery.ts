import { Command, Option } from 'commander'
import { healthRoutes } from '../admin/health.ts'
import { AdminServer } from '../admin/http.ts'
import { SigningCa } from '../identity/signing-ca.ts'
import { DISCOVERY_ACCOUNT, DISCOVERY_NAMESPACE } from '../identity/spiffe-id.ts'
import { createLogger, type Logger } from '../lib/log.ts'
import { isLoopback } from '../lib/loopback.ts'
import { VERSION } from '../lib/version.ts'
import { DirectoryStore } from '../objects/directory-store.ts'
import type { NodeInfo } from '../xds/types.ts'
import {
  CREDENTIAL_FLAGS,
  type CredentialFlags,
  openCredentials,
  readCredentialFlags,
} from './credential-flags.ts'
import { DiscoveryProcess } from './discovery-process.ts'
import { discoveryMetrics, discoveryRoutes } from './discovery-routes.ts'
import { parseDuration } from './flag-values.ts'
import { hostAddresses } from './host-addresses.ts'
import { listenAddress } from './listen-address.ts'

/** Bad usage or configuration, as in sysexits.h. */
const EXIT_USAGE = 64

interface Options extends CredentialFlags {
  readonly cluster: string
  readonly objects: readonly string[]
  readonly generated?: string
  readonly signingCa: string
  readonly svidLifetime: string
  readonly ads: string
  readonly adsPlain: string
  readonly admin: string
  readonly health: string
  readonly link: string
  readonly metrics: string
  readonly gatewayImage: string
  readonly gatewayDiscovery: string
  readonly logLevel: string
}

/** `isthmus discovery`: the xDS server and the controllers of one cluster. */
export function command(): Command {
  const option = (flags: string, about: string, fallback?: string): Option => {
    const made = new Option(flags, about)
    if (fallback !== undefined) made.default(fallback)
    return made.env(`ISTHMUS_${made.name().replaceAll('-', '_').toUpperCase()}`)
  }
  const required = (flags: string, about: string): Option => option(flags, about).makeOptionMandatory()
  return new Command('isthmus discovery')
    .description(
      'reads the objects of one cluster, decides who may reach what, serves xDS, writes ServiceEntries',
    )
    .exitOverride((error) => process.exit(error.exitCode === 0 ? 0 : EXIT_USAGE))
    .addOption(required('--cluster <name>', "this cluster's name"))
    .addOption(
      required('--objects <directory...>', 'folders of YAML; ORG and TEN in them come from the environment'),
    )
    .addOption(
      option('--generated <directory>', 'where the controllers write (default: hidden in the first folder)'),
    )
    .addOption(
      option('--certs <value>', 'folder of isthmus-discovery’s credential: --credentials files:FOLDER', ''),
    )
    .addOption(option('--credentials <value>', CREDENTIAL_FLAGS[1].about, ''))
    .addOption(option('--ca-root <value>', CREDENTIAL_FLAGS[2].about, CREDENTIAL_FLAGS[2].fallback))
    .addOption(option('--ca-token <value>', CREDENTIAL_FLAGS[3].about, CREDENTIAL_FLAGS[3].fallback))
    .addOption(option('--spiffe-id <value>', CREDENTIAL_FLAGS[4].about, ''))
    .addOption(
      option(
        '--signing-ca <folder>',
        'CA (made by "isthmus certs init" or "import") that signs SVIDs for the clients of xDS, over SDS',
        '',
      ),
    )
    .addOption(option('--svid-lifetime <duration>', 'how long those SVIDs live, an hour at most', '58m'))
    .addOption(option('--ads <host:port>', 'xDS over mutual TLS', '0.0.0.0:15012'))
    .addOption(option('--ads-plain <host:port>', 'xDS in clear, on loopback, or "off"', '127.0.0.1:15010'))
    .addOption(option('--admin <host:port>', 'status, explain, config_dump, logging', '127.0.0.1:15000'))
    .addOption(
      option(
        '--link <host:port>',
        'where other clusters spend link tokens, open while one is outstanding, or "off"',
        '0.0.0.0:15013',
      ),
    )
    .addOption(option('--health <host:port>', 'livez and readyz', '0.0.0.0:15021'))
    .addOption(option('--metrics <host:port>', 'Prometheus', '0.0.0.0:15020'))
    .addOption(
      option(
        '--gateway-image <image>',
        'image of the gateways that are made for gateway objects',
        `isthmus:${VERSION}`,
      ),
    )
    .addOption(
      option(
        '--gateway-discovery <host:port>',
        'where those gateways find this server',
        'isthmus-discovery.isthmus-system.svc:15012',
      ),
    )
    .addOption(option('--log-level <level>', 'trace, debug, info, warn, error', 'info'))
    .action(async (options: Options) => {
      await run(options)
    })
}

async function run(options: Options): Promise<void> {
  const addresses = readAddresses(options)
  const spec = readCredentialFlags(options)
  if (!spec.ok) {
    process.stderr.write(`isthmus discovery: ${spec.error}\n`)
    process.exitCode = EXIT_USAGE
  }
  const lifetime = parseDuration(options.svidLifetime)
  if (!lifetime.ok || lifetime.value < 60_000 || lifetime.value > 60 * 60_000) {
    const why = lifetime.ok ? `"${options.svidLifetime}" is not between 1m and 60m` : lifetime.error
    process.stderr.write(`isthmus discovery: --svid-lifetime: ${why}\n`)
    process.exitCode = EXIT_USAGE
  }
  if (spec.ok && spec.value.kind === 'discovery') {
    process.stderr.write('isthmus discovery: --credentials: discovery:… is for its clients\n')
    process.exitCode = EXIT_USAGE
  }
  if (addresses === undefined || !spec.ok || process.exitCode === EXIT_USAGE || !lifetime.ok) return
  const logger = createLogger({ name: 'discovery', level: options.logLevel, cluster: options.cluster })
  const objects = options.objects.flatMap((value) => value.split(','))
  const store = new DirectoryStore({
    directories: objects,
    generated: options.generated,
    substitutions: { ORG: process.env['ORG'], TEN: process.env['TEN'] },
    logger,
  })
  const credentials = openCredentials(spec.value, {
    node: nodeOf(options.cluster),
    cluster: options.cluster,
    logger,
  })
  const signingCa =
    options.signingCa === '' ? undefined : new SigningCa({ directory: options.signingCa, logger })
  const discovery = new DiscoveryProcess({
    signingCa,
    svidLifetimeMs: lifetime.value,
    cluster: options.cluster,
    store,
    credentials,
    ads: addresses.ads,
    adsPlain: addresses.adsPlain,
    hostAddresses: hostAddresses({
      logger,
      allowLocal: process.env['ISTHMUS_ALLOW_LOCAL_ENDPOINTS'] === 'true',
    }),
    link: addresses.link,
    logger,
    pods: { cluster: options.cluster, image: options.gatewayImage, discovery: options.gatewayDiscovery },
  })
  const { readiness } = discovery.discovery
  const admin = new AdminServer({ routes: discoveryRoutes(discovery, logger) })
  const health = new AdminServer({ routes: healthRoutes({ pending: () => readiness.list() }) })
  const metrics = new AdminServer({ routes: discoveryMetrics(discovery).routes() })
  const stop = async (signal: string): Promise<void> => {
    logger.info({ signal }, 'stopping')
    await discovery.stop()
    credentials.stop()
    signingCa?.stop()
    await store.stop()
    await Promise.all([admin.close(), health.close(), metrics.close()])
  }
  for (const signal of ['SIGINT', 'SIGTERM'] as const)
    process.once(signal, () => void stop(signal).then(() => process.exit(0)))
  try {
    // Health and admin first: they say what is awaited.
    const listening = {
      admin: await admin.listen(addresses.admin.host, addresses.admin.port),
      health: await health.listen(addresses.health.host, addresses.health.port),
      metrics: await metrics.listen(addresses.metrics.host, addresses.metrics.port),
    }
    if (!isLoopback(addresses.admin.host))
      logger.warn(
        `--admin ${options.admin}: whoever reaches it sees everything, and it asks nobody who he is`,
      )
    await credentials.start()
    await signingCa?.start()
    await store.start()
    await discovery.start()
    sayReady(discovery, logger, listening)
  } catch (error) {
    logger.fatal({ err: error }, `cannot start: ${error instanceof Error ? error.message : error}`)
    process.exit(1)
  }
}

/** Who discovery says it is to an SDS server. */
function nodeOf(cluster: string): NodeInfo {
  const id = `discovery~~${DISCOVERY_ACCOUNT}.${DISCOVERY_NAMESPACE}~${DISCOVERY_NAMESPACE}.svc.cluster.local`
  return { id, cluster, metadata: {}, locality: { region: '', zone: '' }, userAgentName: 'isthmus' }
}

/** One line with the real addresses, once streams are served. */
function sayReady(discovery: DiscoveryProcess, logger: Logger, listening: object): void {
  const { readiness } = discovery.discovery
  if (!readiness.ready) logger.warn({ pending: readiness.list(), ...listening }, 'not ready yet')
  void readiness
    .whenReady()
    .then(() => logger.info({ ...discovery.discovery.addresses, ...listening }, 'ready'))
}

function readAddresses(options: Options) {
  const read = (flag: keyof Options) => listenAddress(String(options[flag]))
  const parsed = {
    ads: read('ads'),
    adsPlain: options.adsPlain === 'off' ? undefined : read('adsPlain'),
    link: options.link === 'off' ? undefined : read('link'),
    admin: read('admin'),
    health: read('health'),
    metrics: read('metrics'),
  }
  const { ads, adsPlain, link, admin, health, metrics } = parsed
  if (ads.ok && adsPlain?.ok !== false && link?.ok !== false && admin.ok && health.ok && metrics.ok) {
    return {
      ads: ads.value,
      adsPlain: adsPlain?.value,
      link: link?.value,
      admin: admin.value,
      health: health.value,
      metrics: metrics.value,
    }
  }
  for (const [name, result] of Object.entries(parsed)) {
    const flag = name === 'adsPlain' ? 'ads-plain' : name
    if (result?.ok === false) process.stderr.write(`isthmus discovery: --${flag}: ${result.error}\n`)
  }
  process.exitCode = EXIT_USAGE
  return undefined
}
