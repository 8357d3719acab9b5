// What goes to many streams is framed once. A gRPC message is [prefix | content | nonce]: the nonce is a stream's own and comes
// last, and all nonces are of one length, so that the prefix, which counts the bytes of the whole message, is the same for all.
// A stream then costs one write of bytes that it shares and one of the 10 that it does not.
import { encodeContent, encodeNonce } from './codec-response.ts'
import { messagePrefix } from './grpc.ts'
import type { Content, Push, Variant } from './messages.ts'

const NONCE_LENGTH = 8
/** Tag, length, text. */
const NONCE_BYTES = 2 + NONCE_LENGTH
/** How many frames of one state of a type are kept: those in step share the first, whoever comes new or lags behind the others. */
const FRAMES_PER_STATE = 8

const NOTHING: readonly never[] = []

interface Frame {
  readonly variant: Variant
  readonly identifier: string
  readonly content: Content
  readonly bytes: Buffer
}

/** By the immutable state that they were taken from: when it is replaced, its frames go with it. */
const frames = new WeakMap<Push['view'], Frame[]>()

/** The nth nonce of a stream. All are of the same length; after 36^8 they begin anew. */
export function nonceOf(n: number): string {
  return n.toString(36).padStart(NONCE_LENGTH, '0').slice(-NONCE_LENGTH)
}

/** Prefix and content of a push, the same Buffer for every stream that sends it; `nonceTail` must follow. */
export function sharedFrame(variant: Variant, push: Push, identifier: string): Buffer {
  let kept = frames.get(push.view)
  if (kept === undefined) {
    kept = []
    frames.set(push.view, kept)
  }
  const index = kept.findIndex(
    (one) => one.variant === variant && one.identifier === identifier && sameContent(one.content, push),
  )
  const known = kept[index]
  if (index > 0) kept.unshift(...kept.splice(index, 1))
  if (known !== undefined) return known.bytes
  const { nonce: _nonce, view: _view, ...content } = push
  const parts = encodeContent(variant, content, identifier)
  const length = parts.reduce((sum, part) => sum + part.length, NONCE_BYTES)
  const bytes = Buffer.concat([messagePrefix(length), ...parts])
  if (kept.unshift({ variant, identifier, content, bytes }) > FRAMES_PER_STATE) kept.pop()
  return bytes
}

/** The end of a message. `nonce` must be one of `nonceOf`. */
export function nonceTail(nonce: string): Uint8Array {
  const bytes = encodeNonce(nonce)
  if (bytes.length !== NONCE_BYTES) throw new Error(`nonce "${nonce}" is not of ${NONCE_LENGTH} characters`)
  return bytes
}

function sameContent(a: Content, b: Content): boolean {
  return (
    a.typeUrl === b.typeUrl &&
    a.version === b.version &&
    sameMembers(a.resources, b.resources) &&
    sameMembers(a.removed, b.removed) &&
    a.ttl === b.ttl &&
    sameMembers(a.notFound ?? NOTHING, b.notFound ?? NOTHING) &&
    sameMembers(a.heartbeats ?? NOTHING, b.heartbeats ?? NOTHING)
  )
}

function sameMembers(a: readonly unknown[], b: readonly unknown[]): boolean {
  return a === b || (a.length === b.length && a.every((one, index) => one === b[index]))
}
