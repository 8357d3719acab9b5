// Who may call: certificates, policy, the chains and fields that make an Envoy gateway safe, and what a change does to open connections.
import type { ConnectionOptions } from 'node:tls'
import { mintLeaf } from '../identity/mint.ts'
import type { Recorder } from '../targets/recorder.ts'
import type { Case } from './case.ts'
import { clientSees, type DifferentialContext, type Outcome } from './context.ts'
import type { Service } from './world.ts'

/** A call by a caller that is let in or not; what the backend has of it. */
async function call(
  context: DifferentialContext,
  service: Service,
  options: ConnectionOptions & { readonly listener?: string; readonly silent?: boolean },
): Promise<Outcome> {
  const recorder: Recorder = service === 'banner' ? context.world.banner : context.world.echo
  const { silent = false, ...rest } = options
  const before = { connects: recorder.connects, bytes: recorder.bytes }
  const client = context.client(service, rest)
  if (!silent) client.tls.write('ping')
  await client.wire.until(() => client.received > 0 || client.wire.tcpEnd !== 'open')
  client.tls.end()
  await client.ended()
  const { client: saw, ending } = await context.outcome(client, '')
  const reached = `${recorder.connects - before.connects} connects, ${recorder.bytes - before.bytes} bytes`
  // How a refusal is told depends on who finds out when, and has a case of its own.
  return {
    client: ending === 'refused' && client.received === 0 ? 'refused' : saw,
    backend: reached,
    ending,
  }
}

const nobody = { cert: undefined, key: undefined }

const policy: readonly Case[] = [
  { id: 'policy/allowed', run: (context) => call(context, 'echo', {}) },
  { id: 'policy/denied-client-first', run: (context) => call(context, 'echo', { listener: 'denying' }) },
  {
    id: 'policy/denied-server-first',
    run: (context) => call(context, 'banner', { listener: 'denying', silent: true }),
  },
  {
    id: 'policy/denied-at-the-first-byte',
    run: (context) => call(context, 'echo', { listener: 'denying-first-byte' }),
  },
  { id: 'policy/not-revoked', run: (context) => call(context, 'echo', { listener: 'revoking' }) },
  {
    id: 'policy/revoked',
    run: (context) => {
      const { pem, keyPem } = context.world.revoked
      return call(context, 'echo', { listener: 'revoking', cert: pem, key: keyPem })
    },
  },
  { id: 'policy/stranger', run: (context) => call(context, 'banner', { ...nobody, silent: true }) },
  {
    id: 'policy/mtls_authenticated-is-one-id',
    run: (context) => {
      // The first URI picks the bundle in Envoy, any of them the policy; ours takes no second one.
      const { pool } = context.world
      const two = pool.certificates.find(({ title }) => title.startsWith('two URI SANs, the second'))
      return call(context, 'echo', { ...two })
    },
  },
]

const fields: readonly Case[] = [
  {
    id: 'fields/upstream_connect_mode-handshake',
    run: async (context) => {
      const { banner } = context.world
      const before = banner.connects
      const client = context.client('banner')
      await client.wire.until(() => client.received > 0 || client.wire.tcpEnd !== 'open')
      return context.outcome(client, `${banner.connects - before} connects before the client's first byte`)
    },
  },
  {
    id: 'fields/upstream_connect_mode-first-byte',
    run: async (context) => {
      const { echo } = context.world
      const before = echo.connects
      const client = context.client('echo', { listener: 'first-byte' })
      client.tls.write('ping')
      await client.wire.until(() => client.received === 4 || client.wire.tcpEnd !== 'open')
      client.tls.end()
      await client.ended()
      return context.outcome(client, `${echo.connects - before} connects`)
    },
  },
  {
    id: 'fields/filter_chain_match-server_names-keeps-a-caller-out',
    run: (context) => call(context, 'echo', { listener: 'chains' }),
  },
  {
    id: 'fields/filter_chain_match-server_names-lets-a-caller-in',
    run: (context) => call(context, 'echo', { listener: 'chains', ...leafOf(context, 'otherRoot') }),
  },
  {
    id: 'fields/spiffe-validator-of-one-trust-domain',
    run: (context) => call(context, 'echo', { listener: 'chains', ...leafOf(context, 'root') }),
  },
  {
    id: 'fields/match_typed_subject_alt_names-match',
    run: (context) => call(context, 'echo', { listener: 'pinned' }),
  },
  {
    id: 'fields/match_typed_subject_alt_names-no-match',
    run: (context) => call(context, 'echo', { listener: 'pinned-elsewhere' }),
  },
  {
    id: 'fields/other-chain-of-the-listener',
    run: (context) => call(context, 'banner', { listener: 'chains' }),
  },
]

function leafOf({ world: { pool } }: DifferentialContext, which: 'root' | 'otherRoot'): ConnectionOptions {
  const domain = which === 'root' ? 'cluster-8.example' : 'cluster-9.example'
  const leaf = mintLeaf(pool[which], `spiffe://${domain}/ns/bookinfo/sa/other`)
  return { cert: leaf.pem, key: leaf.keyPem }
}

/** A certificate by nobody we know. */
function strange({ world: { pool } }: DifferentialContext): ConnectionOptions {
  const { cert, key } = pool.certificates.find(({ title }) => title === 'an unknown CA') ?? {}
  return { cert, key }
}

/** An open connection, a change, and whether the connection still carries bytes. */
const change = (id: string, to: 'denied' | 'distrusted' | 'removed' | 'emptied'): Case => ({
  id,
  run: async (context) => {
    const { world, target } = context
    const client = context.client('echo')
    await context.reach(client, world.echo)
    await client.wire.until(() => client.received === 4)
    await target.update(world[to])
    client.tls.write('still')
    await client.wire.until(() => client.received > 4 || client.wire.tcpEnd !== 'open')
    const open = clientSees(client.seen())
    const later = context.client('echo')
    later.tls.write('ping')
    await later.wire.until(() => later.received > 0 || later.wire.tcpEnd !== 'open')
    const next = later.received > 0 ? 'is let in' : 'is refused'
    await target.update(world.resources)
    return { client: open, backend: `who comes after it ${next}`, ending: '' }
  },
})

/** A session from before its CA was removed, at a door that knows it no more (CVE-2025-68121). */
const oldSession = (maxVersion: 'TLSv1.2' | 'TLSv1.3'): Case => ({
  id: `changes/session-of-a-removed-CA-${maxVersion}`,
  run: async (context) => {
    const { world, target } = context
    const sessions: Buffer[] = []
    const giver = context.client('echo', { minVersion: maxVersion, maxVersion })
    giver.tls.on('session', (session) => sessions.push(session))
    await context.reach(giver, world.echo)
    await giver.wire.until(() => giver.received === 4)
    const session = sessions.at(-1) ?? giver.tls.getSession()
    await target.update(world.distrusted)
    const { connects } = world.echo
    const client = context.client('echo', {
      minVersion: maxVersion,
      maxVersion,
      ...(session === undefined ? {} : { session }),
    })
    client.tls.write('ping')
    await client.wire.until(() => client.received > 0 || client.wire.tcpEnd !== 'open')
    await target.update(world.resources)
    const outcome = client.tls.isSessionReused() ? 'resumed' : 'a full handshake'
    return {
      client: `${outcome}, ${client.received > 0 ? 'served' : 'refused'}`,
      backend: `${world.echo.connects - connects} connects`,
      ending: '',
    }
  },
})

const changes: readonly Case[] = [
  oldSession('TLSv1.2'),
  oldSession('TLSv1.3'),
  change('changes/policy-during-a-transfer', 'denied'),
  change('changes/trust-during-a-transfer', 'distrusted'),
  change('changes/service-removed-during-a-transfer', 'removed'),
  change('changes/endpoints-gone-during-a-transfer', 'emptied'),
]

const handshakes: readonly Case[] = [
  {
    id: 'handshakes/how-a-refused-certificate-is-told',
    run: async (context) => {
      const client = context.client('echo', strange(context))
      await client.ended()
      return context.outcome(client, 'no connect')
    },
  },
  {
    id: 'handshakes/too-slow',
    run: async (context) => {
      const client = context.client('echo', {
        listener: 'impatient',
        wire: { segments: (bytes) => [bytes.subarray(0, 60)] },
      })
      await client.ended()
      const outcome = await context.outcome(client, 'no connect')
      return { ...outcome, client: 'cut' }
    },
  },
  ...(['TLSv1.2', 'TLSv1.3'] as const).map(
    (version): Case => ({
      id: `handshakes/${version}`,
      run: (context) => call(context, 'echo', { minVersion: version, maxVersion: version }),
    }),
  ),
]

const OFFERS: readonly (readonly string[])[] = [
  [],
  ['istio-peer-exchange', 'istio'],
  ['istio-peer-exchange', 'h2', 'istio'],
  ['istio-http/1.1', 'istio', 'http/1.1'],
  ['istio-h2', 'istio', 'h2'],
  ['istio'],
  ['istio', 'h2'],
  ['h2'],
  ['grpc-exp', 'h2'],
  ['http/1.1'],
  ['unheard-of'],
  ['istio-peer-exchange'],
]

const alpn: readonly Case[] = OFFERS.map((offered) => ({
  id: `alpn/${offered.join('+') || 'none'}`,
  run: async (context) => {
    const client = context.client('echo', { ALPNProtocols: [...offered] })
    await client.secured()
    const chosen = client.tls.alpnProtocol
    if (client.handshake) client.tls.end()
    await client.ended()
    const outcome = await context.outcome(client, '')
    return { ...outcome, client: client.handshake ? `selected ${chosen || 'none'}` : outcome.client }
  },
}))

export const CALLERS: readonly Case[] = [...policy, ...fields, ...changes, ...handshakes, ...alpn]
