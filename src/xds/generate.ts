// Generates the protobuf-es code of the Envoy v3 API (src/xds/gen, never committed) from the .proto
// files inside the npm package @grpc/grpc-js-xds. Run by prestart and pretest; does nothing when the
// stamp in src/xds/gen matches this file and the packages' versions.
//
// Two of the shipped files' habits need a hand: validate.proto there is older than envoy-api and lacks
// `ignore_empty`, so the option is dropped from a copy; and only the files below are generated, because
// the whole API takes 25 s and the closure of these takes 6.
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { DESCRIPTOR_ROOTS, NEWER_FIELDS, NEWER_FILES } from './newer-protos.ts'

const ROOTS: readonly string[] = [
  'envoy/service/discovery/v3/ads.proto',
  'envoy/service/status/v3/csds.proto',
  'envoy/config/listener/v3/listener.proto',
  'envoy/config/cluster/v3/cluster.proto',
  'envoy/config/core/v3/substitution_format_string.proto',
  'envoy/config/endpoint/v3/endpoint.proto',
  'envoy/config/route/v3/route.proto',
  'envoy/extensions/clusters/aggregate/v3/cluster.proto',
  'envoy/extensions/filters/http/router/v3/router.proto',
  'envoy/extensions/filters/listener/proxy_protocol/v3/proxy_protocol.proto',
  'envoy/extensions/filters/listener/tls_inspector/v3/tls_inspector.proto',
  'envoy/extensions/filters/network/http_connection_manager/v3/http_connection_manager.proto',
  'envoy/extensions/filters/network/rbac/v3/rbac.proto',
  'envoy/extensions/filters/network/sni_cluster/v3/sni_cluster.proto',
  'envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy.proto',
  'envoy/extensions/filters/udp/dns_filter/v3/dns_filter.proto',
  'envoy/extensions/load_balancing_policies/least_request/v3/least_request.proto',
  'envoy/extensions/load_balancing_policies/maglev/v3/maglev.proto',
  'envoy/extensions/load_balancing_policies/random/v3/random.proto',
  'envoy/extensions/load_balancing_policies/ring_hash/v3/ring_hash.proto',
  'envoy/extensions/load_balancing_policies/round_robin/v3/round_robin.proto',
  'envoy/extensions/network/dns_resolver/cares/v3/cares_dns_resolver.proto',
  'envoy/extensions/retry/host/previous_hosts/v3/previous_hosts.proto',
  'envoy/extensions/transport_sockets/proxy_protocol/v3/upstream_proxy_protocol.proto',
  'envoy/extensions/transport_sockets/raw_buffer/v3/raw_buffer.proto',
  'envoy/extensions/transport_sockets/tls/v3/tls.proto',
  'envoy/extensions/transport_sockets/tls/v3/secret.proto',
  'envoy/extensions/transport_sockets/tls/v3/tls_spiffe_validator_config.proto',
  'envoy/extensions/upstreams/http/v3/http_protocol_options.proto',
]

const here = dirname(fileURLToPath(import.meta.url))
const out = join(here, 'gen')
const require = createRequire(import.meta.url)
const xdsPackage = dirname(require.resolve('@grpc/grpc-js-xds/package.json'))

const version = (name: string): string =>
  JSON.parse(readFileSync(require.resolve(`${name}/package.json`), 'utf8')).version

const stamp = createHash('sha256')
  .update(readFileSync(fileURLToPath(import.meta.url)))
  .update(readFileSync(join(here, 'newer-protos.ts')))
  .update(version('@grpc/grpc-js-xds') + version('@bufbuild/buf'))
  .digest('hex')

if (existsSync(join(out, 'stamp')) && readFileSync(join(out, 'stamp'), 'utf8') === stamp) process.exit(0)

// A folder beside the target, so that the rename at the end stays on one file system and two
// generators at once cannot see each other's half-written files.
mkdirSync(out, { recursive: true })
const work = mkdtempSync(join(here, '.gen-'))
try {
  const protos = join(work, 'protos')
  for (const part of readdirSync(join(xdsPackage, 'deps')))
    cpSync(join(xdsPackage, 'deps', part), protos, { recursive: true })
  rmSync(join(protos, 'tests'), { recursive: true, force: true })
  for (const file of [
    'envoy/config/core/v3/protocol.proto',
    'envoy/extensions/geoip_providers/common/v3/common.proto',
    'envoy/extensions/http/injected_credentials/generic/v3/generic.proto',
    'envoy/extensions/filters/http/oauth2/v3/oauth.proto',
  ]) {
    const path = join(protos, file)
    writeFileSync(path, readFileSync(path, 'utf8').replace(/,?\s*ignore_empty:\s*true/g, ''))
  }
  writeFileSync(join(work, 'buf.yaml'), 'version: v2\nmodules:\n  - path: protos\n')
  const plugin = join(dirname(require.resolve('@bufbuild/protoc-gen-es/package.json')), 'bin/protoc-gen-es')
  writeFileSync(
    join(work, 'buf.gen.yaml'),
    `version: v2\nplugins:\n  - local: ${JSON.stringify([process.execPath, plugin])}\n    out: gen\n    include_imports: true\n    opt: [target=js+dts, import_extension=js]\n`,
  )
  const buf = join(dirname(require.resolve('@bufbuild/buf/package.json')), 'bin/buf')
  const paths = ROOTS.flatMap((file) => ['--path', join('protos', file)])
  execFileSync(process.execPath, [buf, 'generate', '.', ...paths], { cwd: work, stdio: 'inherit' })
  buildDescriptors(buf, protos)
  writeFileSync(join(work, 'gen', 'stamp'), stamp)
  rmSync(out, { recursive: true, force: true })
  renameSync(join(work, 'gen'), out)
} finally {
  rmSync(work, { recursive: true, force: true })
}

/** `gen/envoy.binpb`: what JSON and YAML are read by, newer fields included. See descriptors.ts. */
function buildDescriptors(buf: string, protos: string): void {
  for (const { file, after, text } of NEWER_FIELDS) {
    const path = join(protos, file)
    const before = readFileSync(path, 'utf8').replaceAll('\r\n', '\n')
    if (!before.includes(`${after}\n`)) throw new Error(`${file} has no line ${after}`)
    writeFileSync(
      path,
      before.replace(`${after}\n`, () => `${after}\n${text}\n`),
    )
  }
  for (const [file, text] of Object.entries(NEWER_FILES)) {
    mkdirSync(dirname(join(protos, file)), { recursive: true })
    writeFileSync(join(protos, file), text)
  }
  const paths = [...ROOTS, ...DESCRIPTOR_ROOTS].flatMap((file) => ['--path', join('protos', file)])
  const output = ['-o', join('gen', 'envoy.binpb'), '--as-file-descriptor-set', '--exclude-source-info']
  execFileSync(process.execPath, [buf, 'build', '.', ...output, ...paths], { cwd: work, stdio: 'inherit' })
}
