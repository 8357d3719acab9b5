import { Command } from 'commander'
import { Backend } from '../load/backend.ts'
import { parseAuthority } from '../proxy/names/authority.ts'
import { EXIT_USAGE } from './object-command.ts'

interface BackendFlags {
  readonly listen: string
  readonly size: string
}

/** `isthmus bench backend`: the service to put behind a gateway under load. Exit codes: 0 ended by a signal, 1, 64 bad usage. */
export function backendCommand(): Command {
  return new Command('backend')
    .description('the service to put behind the gateway: HTTP/1.1, counts what it does, costs little')
    .option('--listen <ip:port>', 'where', '127.0.0.1:8080')
    .option('--size <bytes>', 'of an answer whose path does not say (/bytes/N does)', '1000')
    .exitOverride(({ exitCode }) => process.exit(exitCode === 0 ? 0 : EXIT_USAGE))
    .action(async ({ listen, size }: BackendFlags) => {
      const at = parseAuthority(listen)
      if (!at.ok) return usage(`--listen: ${at.error}`)
      if (!/^\d{1,9}$/.test(size)) return usage(`--size: expected a number of bytes, found "${size}"`)
      await serve(at.value.host, at.value.port, Number(size))
    })
}

async function serve(host: string, port: number, size: number): Promise<void> {
  const backend = await Backend.start({ host, port, size }).catch((error: NodeJS.ErrnoException) => error)
  if (backend instanceof Error) {
    process.stderr.write(`isthmus bench backend: cannot listen on ${host}:${port} (${backend.code})\n`)
    process.exitCode = 1
    return
  }
  process.stdout.write(`listening on ${host}:${backend.port}: GET /bytes/N, PUT, PUT /stall\n`)
  const leave = async () => {
    await backend.stop()
    process.stdout.write(`${JSON.stringify(backend.counters)}\n`)
    process.exit(0)
  }
  process.once('SIGINT', () => void leave())
  process.once('SIGTERM', () => void leave())
}

function usage(message: string): void {
  process.stderr.write(`isthmus bench backend: ${message}\n`)
  process.exitCode = EXIT_USAGE
}
