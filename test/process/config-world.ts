// What the tests of `--config` share: gateways out of a file, and who calls them.
import { connect, type TLSSocket } from 'node:tls'
import { type BootstrapWorld, type Scope, UPSTREAM } from '../resources/bootstrap-world.ts'
import { Pod } from './pod.ts'

const EPHEMERAL = ['--admin', '127.0.0.1:0', '--health', '127.0.0.1:0', '--metrics', '127.0.0.1:0']
/** The backends of tests are on this machine. */
const HERE = ['--allow-local-endpoints', 'true', '--workers', '1', '--drain-delay', '0s', '--drain', '0s']

export async function call(world: BootstrapWorld, port: number, servername = UPSTREAM): Promise<TLSSocket> {
  const client = await world.ca.issue({ namespace: 'bookinfo', serviceAccount: 'sleep' })
  const socket = connect({
    host: '127.0.0.1',
    port,
    servername,
    cert: client.certificatePem,
    key: client.privateKeyPem,
    ca: world.ca.bundlePem,
    checkServerIdentity: () => undefined,
  })
  socket.on('error', () => {})
  await new Promise((resolve) => socket.once('secureConnect', resolve).once('close', resolve))
  return socket
}

export function start(scope: Scope, file: string, ...more: string[]): Pod {
  return new Pod(scope, ['gateway', '--config', file, ...EPHEMERAL, ...HERE, ...more])
}
