import type { Socket } from 'node:net'
import { ALERT, alertRecord } from './client-hello.ts'
import type { Connection } from './connection.ts'
import type { ProxyContext } from './context.ts'
import { forward, plainEnd } from './forward.ts'
import type { Judge } from './judge.ts'
import type { Caller } from './rbac.ts'
import type { ServedChain } from './served-chains.ts'

export interface Passthrough {
  readonly chain: ServedChain
  /** The name of the upstream. */
  readonly upstream: string
  /** Without an id: nobody verifies who calls before the workload does. */
  readonly caller: Caller
  /** What the client has sent so far, its ClientHello first. */
  readonly received: Buffer
}

/**
 * Splices a TLS connection, its ClientHello included, to a mesh workload, which is the one that terminates it. No crypto is spent here.
 * Who may not is told what an unknown name is told.
 */
export function passThrough(
  context: ProxyContext,
  judge: Judge,
  connection: Connection,
  raw: Socket,
  { chain, upstream, caller, received }: Passthrough,
): void {
  connection.chain = chain.key
  connection.peer = { caller, proof: undefined }
  const admitted = judge.admit(connection, chain.policy, caller)
  if (!admitted.ok) {
    connection.end(admitted.error, 'close', alertRecord(ALERT.unrecognizedName))
    return
  }
  const downstream = plainEnd(raw)
  void forward(context, connection, { chain: chain.config, upstream, downstream, head: received }, (ending) =>
    connection.end(ending, 'close'),
  )
}
