import { Agent, request } from 'node:https'
import { LINK_PATH } from '../discovery/link-server.ts'
import type { LinkSide, LinkToken } from '../discovery/link-token.ts'
import { discoveryId } from '../identity/spiffe-id.ts'
import { serverIdentityError } from '../identity/tls.ts'
import { TrustBundle, TrustBundles } from '../identity/trust-bundle.ts'
import { fail, ok, type Result } from '../lib/result.ts'
import { linkServerName } from '../model/discovery-name.ts'
import { parseHostPort } from './admin-request.ts'

const TIMEOUT_MS = 15_000
const ANSWER_MAX = 65_536

/** Spends a token where it was made, at the first of its addresses that answers. The error is one line for an operator. */
export async function spendToken(token: LinkToken, side: LinkSide): Promise<Result<void, string>> {
  const reasons: string[] = []
  for (const address of token.linkAddresses) {
    const answer = await post(address, token, side)
    if (answer.ok) return answer.value.status === 200 ? ok(undefined) : fail(refusalOf(answer.value.body))
    reasons.push(`${address}: ${answer.error}`)
  }
  return fail(`${token.side.cluster} cannot be reached: ${reasons.join('; ')}`)
}

interface Answer {
  readonly status: number
  readonly body: string
}

function post(address: string, token: LinkToken, side: LinkSide): Promise<Result<Answer, string>> {
  const at = parseHostPort(address)
  const bundle = TrustBundle.parse(token.side.trustDomain, token.side.bundle, 'token')
  if (at === undefined || !bundle.ok) return Promise.resolve(fail('is no address'))
  const bundles = new TrustBundles([bundle.value])
  const expected = [discoveryId(token.side.trustDomain)]
  return new Promise((resolve) => {
    const call = request({
      host: at.host,
      port: at.port,
      path: LINK_PATH,
      method: 'POST',
      // The chain of a gateway that leads there asks for this protocol by name.
      agent: new Agent({ ALPNProtocols: ['http/1.1'], maxCachedSessions: 0 }),
      signal: AbortSignal.timeout(TIMEOUT_MS),
      servername: linkServerName(token.side.cluster),
      minVersion: 'TLSv1.2',
      ca: bundles.pooledPem(),
      checkServerIdentity: (_host, { raw }) => serverIdentityError(raw, bundles, Date.now(), expected),
      headers: { 'content-type': 'application/json' },
    })
    call.on('error', (error) => resolve(fail(reasonOf(error))))
    call.on('response', (response) => {
      const chunks: Buffer[] = []
      let size = 0
      response.on('data', (chunk: Buffer) => {
        size += chunk.length
        if (size <= ANSWER_MAX) chunks.push(chunk)
        else call.destroy(new Error('the answer is too long'))
      })
      response.on('end', () =>
        resolve(ok({ status: response.statusCode ?? 0, body: Buffer.concat(chunks).toString('utf8') })),
      )
    })
    call.end(JSON.stringify({ id: token.id, secret: token.secret, side }))
  })
}

function reasonOf(error: Error): string {
  if (error.name === 'AbortError' || error.name === 'TimeoutError')
    return `nothing within ${TIMEOUT_MS / 1000} s`
  return (
    error.message.replaceAll('\n', ' ').slice(0, 300) || (error as NodeJS.ErrnoException).code || error.name
  )
}

function refusalOf(body: string): string {
  try {
    const { error } = JSON.parse(body) as { error?: unknown }
    return typeof error === 'string'
      ? error.replace(/[^\x20-\x7e]/g, '?').slice(0, 1_000)
      : 'refused, without a reason'
  } catch {
    return 'it answered something that is not JSON'
  }
}
