// What a target of the benchmark is told, the same for ours, the prototype and the peers.
import { readFileSync, writeSync } from 'node:fs'

/** Terminate mutual TLS on a loopback address, route `serverName` to the backend in clear, refuse everything else. */
export interface Job {
  readonly trustDomain: string
  readonly serverName: string
  /** Of 127.0.0.1. */
  readonly backendPort: number
  readonly certificatePem: string
  readonly privateKeyPem: string
  /** Roots and issuing intermediates of the trust domain. */
  readonly caPem: string
}

/** For a target that is a script of ours: the job, from the file that its command line names. */
export function readJob(): Job {
  return JSON.parse(readFileSync(process.argv[2] ?? '', 'utf8')) as Job
}

/** Tells the harness where the target listens, and ends this process when the harness goes. */
export function sayListening(port: number): void {
  writeSync(3, `${port}\n`)
  // In order, so that a profiler (`--targets ours-node:--cpu-prof`) writes what it has.
  process.once('SIGTERM', () => process.exit(0))
  process.stdin.on('end', () => process.exit(0))
  process.stdin.resume()
}
