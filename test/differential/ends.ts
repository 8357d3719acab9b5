// How connections end: every way for a client, every way for a backend, either first.
import type { Recorded } from '../targets/recorder.ts'
import type { WireTls } from '../targets/wire.ts'
import type { Case } from './case.ts'
import { backendSees, type DifferentialContext, type Outcome } from './context.ts'

const CLIENT_ENDS = ['close_notify', 'FIN', 'RST'] as const
const BACKEND_ENDS = ['FIN', 'RST'] as const
/** A backend over TLS has a third way. */
const SECURE_ENDS = ['close_notify', 'FIN', 'RST'] as const
type End = (typeof CLIENT_ENDS)[number]

function endClient(client: WireTls, how: End): void {
  if (how === 'close_notify') client.tls.end()
  if (how === 'FIN') client.fin()
  if (how === 'RST') client.rst()
}

function endBackend({ stream, raw }: Recorded, how: End): void {
  if (how === 'RST') raw.resetAndDestroy()
  else if (how === 'close_notify' || stream === raw) stream.end()
  else raw.end()
}

type Service = 'script' | 'secure'

async function clientFirst(
  context: DifferentialContext,
  service: Service,
  client: End,
  backend: End,
): Promise<Outcome> {
  const recorder = context.world[service]
  const caller = context.client(service)
  const connection = await context.reach(caller, recorder)
  connection.stream.write('pong')
  await caller.wire.until(() => caller.received === 4)
  endClient(caller, client)
  await recorder.until(() => connection.end !== 'open')
  const seenByBackend = backendSees(connection)
  if (connection.end === 'fin') {
    // The other way is open still.
    connection.stream.write('late')
    // What a reset overtakes is a matter of luck.
    await caller.wire.until(() => caller.received === 8)
    endBackend(connection, backend)
  }
  if (client !== 'RST') await caller.ended()
  return context.outcome(caller, seenByBackend)
}

async function backendFirst(
  context: DifferentialContext,
  service: Service,
  client: End,
  backend: End,
): Promise<Outcome> {
  const recorder = context.world[service]
  const caller = context.client(service)
  const connection = await context.reach(caller, recorder)
  connection.stream.write('pong')
  await caller.wire.until(() => caller.received === 4)
  endBackend(connection, backend)
  await caller.wire.until(() => caller.wire.tcpEnd !== 'open' || caller.seen().alerts.length > 0)
  if (backend === 'RST') await caller.ended()
  else {
    // The other way is open still.
    if (client !== 'RST') caller.tls.write('more')
    endClient(caller, client)
    await recorder.until(() => connection.end !== 'open' || connection.raw.destroyed)
    if (client !== 'RST') await caller.ended()
  }
  return context.outcome(caller, backendSees(connection))
}

const matrix = (service: Service, backends: readonly End[]): Case[] =>
  CLIENT_ENDS.flatMap((client) =>
    backends.flatMap((backend) => [
      {
        id: `ends/${service}/client-${client}-then-backend-${backend}`,
        run: (context: DifferentialContext) => clientFirst(context, service, client, backend),
      },
      ...(backend === 'RST' && client !== 'close_notify'
        ? []
        : [
            {
              id: `ends/${service}/backend-${backend}-then-client-${client}`,
              run: (context: DifferentialContext) => backendFirst(context, service, client, backend),
            },
          ]),
    ]),
  )

export const ENDS: readonly Case[] = [...matrix('script', BACKEND_ENDS), ...matrix('secure', SECURE_ENDS)]
