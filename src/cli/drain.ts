import { Command, Option } from 'commander'
import { formatAuthority, parseAuthority } from '../proxy/names/authority.ts'
import { callAdmin } from './admin-request.ts'
import { parseDuration } from './flag-values.ts'
import { EXIT_USAGE } from './proxy-options.ts'

/** `isthmus drain`: for a container's preStop; ends once no connection is left, or those that were are cut. */
export function command(): Command {
  return new Command('isthmus drain')
    .description('drain the gateway or sidecar of this machine and wait for the end')
    .addOption(
      new Option('--admin <host:port>', 'its admin port').env('ISTHMUS_ADMIN').default('127.0.0.1:15000'),
    )
    .option('--timeout <duration>', 'longest wait; its own drain deadline is usually sooner', '10m')
    .exitOverride((error) => process.exit(error.exitCode === 0 ? 0 : EXIT_USAGE))
    .action(({ admin, timeout }: { admin: string; timeout: string }) => drain(admin, timeout))
}

async function drain(admin: string, timeout: string): Promise<void> {
  const at = parseAuthority(admin)
  const wait = parseDuration(timeout)
  if (!at.ok) return fail(`--admin: ${at.error}`, EXIT_USAGE)
  if (!wait.ok) return fail(`--timeout: ${wait.error}`, EXIT_USAGE)
  const address = formatAuthority(at.value)
  // The answer takes as long as the drain does.
  const reply = await callAdmin(address, '/drain', { method: 'POST', timeoutMs: wait.value })
  if (!reply.ok) return fail(reply.error, 1)
  const { status, body } = reply.value
  if (status !== 200) return fail(`${admin} answered ${status}: ${body.trim()}`, 1)
  process.stdout.write(body)
}

function fail(message: string, code: number): void {
  process.stderr.write(`isthmus drain: ${message}\n`)
  process.exitCode = code
}
