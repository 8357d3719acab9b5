// `/listeners` as Envoy has it: `name::address` for people, envoy.admin.v3.Listeners for programs.
import type { AdminReply } from '../../admin/http.ts'
import { parseAuthority } from '../../proxy/names/authority.ts'
import type { WorkerStatus } from '../../proxy/process/worker.ts'

/** Every worker has the same listeners: those of the first are shown. */
export function listeners(workers: readonly WorkerStatus[], format: string | null): AdminReply {
  const all = workers[0]?.engine.listeners ?? []
  if (format !== 'json') return { body: all.map(({ name, address }) => `${name}::${address}\n`).join('') }
  return {
    body: {
      listener_statuses: all.map(({ name, address }) => ({ name, local_address: socketAddress(address) })),
    },
  }
}

/** `ip:port` as a `core.v3.Address`. */
export function socketAddress(text: string): Readonly<Record<string, unknown>> {
  const parsed = parseAuthority(text)
  const { host, port } = parsed.ok ? parsed.value : { host: text, port: 0 }
  return { socket_address: { address: host, port_value: port } }
}
