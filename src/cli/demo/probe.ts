import { get } from 'node:http'
import { connect } from 'node:net'
import type { Container } from '../../objects/types.ts'

/** How a pod shows that it is ready. */
export type Probe =
  | { readonly kind: 'http'; readonly path: string; readonly port: number }
  | { readonly kind: 'tcp'; readonly port: number }
  | { readonly kind: 'none' }

const TIMEOUT_MS = 1_000

/**
 * The container's own `readinessProbe` (httpGet or tcpSocket), else a connect to its first port, else none. The parsed
 * container does not hold probes, so the document it was read from is asked.
 */
export function probeOf(container: Container, document: unknown): Probe {
  const declared = field(document, 'readinessProbe')
  const portNumber = (port: unknown) =>
    typeof port === 'number' ? port : container.ports.find(({ name }) => name === port)?.containerPort
  const httpPort = portNumber(field(declared, 'httpGet', 'port'))
  if (httpPort !== undefined)
    return { kind: 'http', port: httpPort, path: String(field(declared, 'httpGet', 'path') ?? '/') }
  const port = portNumber(field(declared, 'tcpSocket', 'port')) ?? container.ports[0]?.containerPort
  return port === undefined ? { kind: 'none' } : { kind: 'tcp', port }
}

/** Reads a member of a member of … an unknown value; undefined where one is missing. */
export function field(value: unknown, ...path: readonly (string | number)[]): unknown {
  return path.reduce<unknown>(
    (inner, key) =>
      inner !== null && typeof inner === 'object'
        ? (inner as Record<string | number, unknown>)[key]
        : undefined,
    value,
  )
}

export function probe(check: Probe, host: string): Promise<boolean> {
  if (check.kind === 'none') return Promise.resolve(true)
  return check.kind === 'http' ? probeHttp(host, check.port, check.path) : probeTcp(host, check.port)
}

function probeHttp(host: string, port: number, path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const request = get({ host, port, path, agent: false, timeout: TIMEOUT_MS }, (response) => {
      response.resume()
      resolve(response.statusCode !== undefined && response.statusCode < 400)
    })
    request.on('timeout', () => request.destroy())
    request.on('error', () => resolve(false))
    request.on('close', () => resolve(false))
  })
}

function probeTcp(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host, port, timeout: TIMEOUT_MS })
    const end = (answer: boolean) => {
      socket.destroy()
      resolve(answer)
    }
    socket.on('connect', () => end(true))
    socket.on('timeout', () => end(false))
    socket.on('error', () => end(false))
  })
}
