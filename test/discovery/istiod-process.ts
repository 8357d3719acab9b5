// A real Istio control plane (test/istiod/main.go says how it is built). Runs where ISTIOD_BIN names one, else its tests are skipped.
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { type AddressInfo, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const BINARY = process.env['ISTIOD_BIN'] ?? ''
/** For tap's `skip`. */
export const WITHOUT_ISTIOD: string | false = BINARY === '' ? 'ISTIOD_BIN is not set' : false

export interface Istiod {
  /** Its ADS in clear, `host:port`. */
  readonly ads: string
  /** Whether it says that it is ready, which it is once every type of configuration is there. */
  ready(): Promise<boolean>
  stop(): Promise<void>
}

/** Istiod of a trust domain, configured by the discovery server in clear at `port`. `objects`: YAML of its Kubernetes API. */
export async function startIstiod(trustDomain: string, port: number, objects = ''): Promise<Istiod> {
  const folder = await mkdtemp(join(tmpdir(), 'isthmus-istiod-'))
  const mesh = join(folder, 'mesh.yaml')
  await writeFile(
    mesh,
    `trustDomain: ${trustDomain}\nenableAutoMtls: true\nconfigSources: [{address: "xds://127.0.0.1:${port}"}]\n`,
  )
  const file = join(folder, 'objects.yaml')
  await writeFile(file, objects)
  const [http, ads, monitoring] = await freePorts(3)
  const child = spawn(
    BINARY,
    [
      `--meshConfig=${mesh}`,
      `--objects=${file}`,
      `--httpAddr=127.0.0.1:${http}`,
      `--grpcAddr=127.0.0.1:${ads}`,
      `--monitoringAddr=127.0.0.1:${monitoring}`,
    ],
    {
      cwd: folder,
      env: {
        PATH: process.env['PATH'],
        POD_NAME: 'istiod-1',
        POD_NAMESPACE: 'istio-system',
        PILOT_CERT_PROVIDER: 'none',
        ENABLE_CA_SERVER: 'false',
        // A filter of Istio's own build of Envoy, which a stock one refuses.
        PILOT_ENABLE_METADATA_EXCHANGE: 'false',
      },
      stdio: 'ignore',
    },
  )
  return {
    ads: `127.0.0.1:${ads}`,
    ready: async () => {
      const response = await fetch(`http://127.0.0.1:${http}/ready`).catch(() => undefined)
      return response?.status === 200
    },
    stop: () => stop(child, folder),
  }
}

async function stop(child: ChildProcess, folder: string): Promise<void> {
  if (child.exitCode === null && child.signalCode === null) {
    child.kill('SIGKILL')
    await once(child, 'exit')
  }
  await rm(folder, { recursive: true, force: true })
}

async function freePorts(count: number): Promise<number[]> {
  const servers = await Promise.all(
    Array.from({ length: count }, async () => {
      const server = createServer().listen(0, '127.0.0.1')
      await once(server, 'listening')
      return server
    }),
  )
  const ports = servers.map((server) => (server.address() as AddressInfo).port)
  await Promise.all(servers.map((server) => once(server.close(), 'close')))
  return ports
}
