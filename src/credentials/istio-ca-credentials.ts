import { readFile } from 'node:fs/promises'
import { parseCaCertificate } from '../identity/ca-certificate.ts'
import { type CredentialSource, type Identity, IdentityKeeper, judgeIdentity } from '../identity/identity.ts'
import { parseCertificatesPem } from '../identity/pem.ts'
import { Backoff } from '../lib/backoff.ts'
import { type Clock, systemClock } from '../lib/clock.ts'
import type { Logger } from '../lib/log.ts'
import { fail, ok, type Problem, problem, type Result } from '../lib/result.ts'
import { createCertificate, type IstioCaTarget } from './istio-ca-call.ts'

/** What Istio's agent asks for; a CA may give less. */
const VALIDITY_SECONDS = 24 * 3600
const TIMEOUT_MS = 10_000

export interface IstioCaOptions extends Omit<IstioCaTarget, 'timeoutMs'> {
  /** The SPIFFE id that we are to have. A certificate for any other is refused. */
  readonly id: string
  readonly logger: Logger
  /** Default 10 s. */
  readonly timeoutMs?: number
  /** Between attempts that fail. Default 1 s, doubling, at most a minute. */
  readonly backoff?: Backoff
  /** Default: the system's. */
  readonly clock?: Clock
  /** A number in [0, 1); a parameter so that tests own it. */
  readonly random?: () => number
}

/**
 * Our own credential from Istio's CA (`istio.v1.auth.IstioCertificateService`): a new key for each certificate, which never leaves
 * this process's memory but for the worker; renewed at half of its life.
 */
export class IstioCaCredentials implements CredentialSource {
  readonly #options: IstioCaOptions
  readonly #clock: Clock
  readonly #random: () => number
  readonly #keeper: IdentityKeeper
  readonly #backoff: Backoff
  readonly #abort = new AbortController()
  #cancel: () => void = () => {}

  constructor(options: IstioCaOptions) {
    this.#options = options
    this.#clock = options.clock ?? systemClock
    this.#random = options.random ?? Math.random
    this.#keeper = new IdentityKeeper('Istio CA', options.logger)
    this.#backoff = options.backoff ?? new Backoff({ baseMs: 1_000, maxMs: 60_000, random: this.#random })
  }

  /** Resolves after the first attempt, however it went. */
  start(): Promise<void> {
    return this.#renew()
  }

  stop(): void {
    this.#cancel()
    this.#abort.abort()
  }

  current(): Identity | undefined {
    return this.#keeper.current
  }

  onChange(callback: () => void): () => void {
    return this.#keeper.onChange(callback)
  }

  problems(): readonly Problem[] {
    return this.#keeper.problems
  }

  async #renew(): Promise<void> {
    const judged = await this.#ask()
    if (this.#abort.signal.aborted) return
    // First the time of the next attempt: a listener that is told of the change may stop us.
    this.#cancel = this.#clock.after(this.#pauseMs(judged), () => void this.#renew())
    this.#keeper.take(judged)
  }

  /** Half of what is left of the certificate's life, give or take a tenth, so that a fleet does not come at once. */
  #pauseMs(judged: Result<Identity, Problem>): number {
    if (!judged.ok) return this.#backoff.next()
    this.#backoff.reset()
    const leftMs = judged.value.credential.notAfterMs - this.#clock.now()
    return (leftMs / 2) * (0.9 + 0.2 * this.#random())
  }

  async #ask(): Promise<Result<Identity, Problem>> {
    const { id, address, timeoutMs = TIMEOUT_MS } = this.#options
    const object = `istio-ca:${address}`
    // Only here: the library that makes requests is large, and a proxy with another source never needs it.
    const { createCertificateRequest } = await import('../identity/csr.ts')
    const { csrPem, privateKeyPem } = await createCertificateRequest(id)
    const target = { ...this.#options, timeoutMs }
    const answer = await createCertificate(target, csrPem, VALIDITY_SECONDS, this.#abort.signal)
    if (!answer.ok) return fail(problem(object, '', answer.error))
    const rootFile = await readFile(this.#options.rootFile, 'utf8').catch(() => '')
    const chain = splitChain(answer.value, rootFile)
    if (!chain.ok) return fail(problem(object, 'cert_chain', chain.error))
    const identity = judgeIdentity(
      { ...chain.value, privateKey: privateKeyPem, crl: '' },
      names(object),
      this.#clock.now(),
    )
    if (!identity.ok) return identity
    const { uri } = identity.value.credential.id
    return uri === id ? identity : fail(problem(object, 'cert_chain', `is for ${uri}; ${id} was asked for`))
  }
}

const names = (object: string) => ({
  object,
  certificate: 'cert_chain',
  privateKey: 'the key of our request',
  bundle: 'cert_chain',
  crl: '',
})

/**
 * The answer as a chain to present and the roots to trust; the entries of `cert_chain` may hold several certificates each. A CA that
 * leaves out the root (one that only passes requests on does) has it in the file that its own certificate is verified with.
 */
function splitChain(
  entries: readonly string[],
  rootFile: string,
): Result<{ readonly certificate: string; readonly bundle: string }, string> {
  const blocks = parseCertificatesPem(entries.map((entry) => `${entry}\n`).join(''))
  if (!blocks.ok) return blocks
  const [leaf, ...above] = blocks.value
  const roots: string[] = []
  const intermediates: string[] = []
  for (const [index, block] of above.entries()) {
    const ca = parseCaCertificate(block)
    if (!ca.ok) return fail(`certificate ${index + 2}: ${ca.error}`)
    ;(ca.value.root ? roots : intermediates).push(block.text)
  }
  const bundle = roots.length > 0 ? roots.join('') : rootFile
  return ok({ certificate: [leaf?.text ?? '', ...intermediates].join(''), bundle })
}
