import type { ModelPort, ModelService } from './types.ts'

/**
 * Names by which a gRPC client asks for a port of a service: the host and its short forms with the port, and where the service has
 * no other port also without one. The canonical server name is not among them.
 */
export function aliasesOf({ name, namespace, host, ports }: ModelService, port: ModelPort): string[] {
  const hosts = [host, `${name}.${namespace}`, `${name}.${namespace}.svc`]
  const withPort = hosts.map((each) => `${each}:${port.number}`)
  return ports.length === 1 ? [...hosts, ...withPort] : withPort
}
