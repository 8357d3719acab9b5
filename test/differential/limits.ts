// Time limits, and what they look like from both ends.
import type { Case } from './case.ts'
import { backendSees } from './context.ts'

export const LIMITS: readonly Case[] = [
  ...(['idle', 'short'] as const).map(
    (listener): Case => ({
      id: `limits/${listener === 'idle' ? 'idle-timeout' : 'longest-duration'}`,
      run: async (context) => {
        const { script } = context.world
        const client = context.client('script', { listener })
        const connection = await context.reach(client, script)
        await client.ended()
        const seen = client.seen()
        client.tls.end()
        await script.until(() => connection.end !== 'open')
        const { ending } = await context.outcome(client, '')
        return {
          client: `${seen.alerts.join()} ${seen.end.toUpperCase()}`,
          backend: backendSees(connection),
          ending,
        }
      },
    }),
  ),
  {
    id: 'limits/traffic-is-not-idle',
    run: async (context) => {
      const client = context.client('echo', { listener: 'idle-second' })
      const begun = Date.now()
      // Longer than the idle timeout in all, each turn much shorter.
      for (let turn = 1; Date.now() - begun < 2_000; turn += 1) {
        client.tls.write('x')
        await client.wire.until(() => client.received >= turn || client.wire.tcpEnd !== 'open')
        await new Promise((resolve) => setTimeout(resolve, 50))
      }
      client.tls.end()
      await client.ended()
      const { ending } = await context.outcome(client, '')
      return { client: client.seen().alerts.join(), backend: '', ending }
    },
  },
]
