import { Command, InvalidArgumentError } from 'commander'
import { SERVICES, type ServiceName, startBookinfo } from './demo/bookinfo.ts'

/** `isthmus bookinfo <service> --port N`: one service of the example application, as a pod runs it. */
export function command(): Command {
  return new Command('isthmus bookinfo')
    .description('one service of the example application; each answers /health too')
    .argument('<service>', SERVICES.join('|'), parseService)
    .requiredOption('--port <number>', 'port to listen on', parsePort)
    .option('--admin-port <number>', 'a second port with /health and /requests', parsePort)
    .option('--host <ip>', 'address to listen on', process.env['POD_IP'] ?? '0.0.0.0')
    .action(async (service: ServiceName, options: { port: number; adminPort?: number; host: string }) => {
      const { close } = await startBookinfo({
        service,
        host: options.host,
        port: options.port,
        adminPort: options.adminPort,
        dns: process.env['ISTHMUS_DNS'] || undefined,
        pod: process.env['POD_NAME'],
      })
      process.stdout.write(
        `${JSON.stringify({ msg: 'ready', service, address: `${options.host}:${options.port}` })}\n`,
      )
      const end = () => void close().then(() => process.exit(0))
      process.on('SIGTERM', end).on('SIGINT', end)
    })
}

function parseService(text: string): ServiceName {
  const service = SERVICES.find((name) => name === text)
  if (service === undefined) throw new InvalidArgumentError(`expected one of ${SERVICES.join(', ')}`)
  return service
}

function parsePort(text: string): number {
  const port = Number(text)
  if (!Number.isInteger(port) || port < 0 || port > 65_535)
    throw new InvalidArgumentError('expected a port from 0 to 65535')
  return port
}
