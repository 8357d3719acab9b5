// Leaves with random parts, and whether each is a good SVID: known from its recipe alone, without reading a certificate.
import fc from 'fast-check'
import * as m from '../identity/mint.ts'
import { type CertificatePool, TRUST_DOMAIN } from './certificates.ts'

const ID = `spiffe://${TRUST_DOMAIN}/ns/bookinfo/sa/sleep`

/** Every part is an index into its choices, of which the first is good. */
const CHOICES = {
  issuer: ['root', 'other', 'itself'],
  names: [
    [m.uriName(ID)],
    [m.dnsName('sleep'), m.uriName(ID)],
    [],
    [m.dnsName(ID)],
    [m.uriName(ID), m.uriName(ID)],
    [m.uriName(`spiffe://${TRUST_DOMAIN}`)],
    [m.uriName(`${ID}/`)],
    [m.uriName(`${ID}?`)],
    [m.uriName('spiffe://cluster-9.example/ns/bookinfo/sa/sleep')],
    [m.uriName(ID.toUpperCase())],
  ],
  usage: [0x80, 0x88, 0x84, 0x82, 0x08, 0x00],
  critical: [true, false],
  extended: [[m.CLIENT_AUTH, m.SERVER_AUTH], [m.CLIENT_AUTH], [], [m.SERVER_AUTH], ['1.3.6.1.5.5.7.3.3']],
  ca: [false, true],
  validity: [
    [-1, 1],
    [-2, -1],
    [1, 2],
  ],
} as const
/** How many of the choices, from the first, are good. */
const GOOD = { issuer: 1, names: 2, usage: 2, critical: 1, extended: 3, ca: 1, validity: 1 } as const

type Part = keyof typeof CHOICES
export type LeafRecipe = Readonly<Record<Part, number>> & { readonly version: 'TLSv1.2' | 'TLSv1.3' }

/** Half of the parts' draws are good ones, so that a fair share of the leaves is wrong in one thing only, or in none. */
const choice = (part: Part) =>
  fc.oneof(
    { weight: 8, arbitrary: fc.nat(GOOD[part] - 1) },
    { weight: 1, arbitrary: fc.nat(CHOICES[part].length - 1) },
  )

export const leafRecipe: fc.Arbitrary<LeafRecipe> = fc.record({
  issuer: choice('issuer'),
  names: choice('names'),
  usage: choice('usage'),
  critical: choice('critical'),
  extended: choice('extended'),
  ca: choice('ca'),
  validity: choice('validity'),
  version: fc.constantFrom('TLSv1.2', 'TLSv1.3'),
})

const keys = m.ecKeys()
const hour = 3_600_000

export function mintRecipe(
  recipe: LeafRecipe,
  pool: CertificatePool,
): { readonly leaf: m.Minted; readonly good: boolean } {
  const parts = Object.keys(CHOICES) as Part[]
  const good = parts.every((part) => recipe[part] < GOOD[part])
  const [from = 0, to = 0] = CHOICES.validity[recipe.validity] ?? []
  const extended = CHOICES.extended[recipe.extended] ?? []
  const issuer = { root: pool.root, other: pool.otherRoot, itself: undefined }[
    CHOICES.issuer[recipe.issuer] ?? 'itself'
  ]
  const leaf = m.mint({
    subject: 'leaf',
    keys,
    ...(issuer === undefined ? {} : { issuer }),
    notBefore: new Date(Date.now() + from * hour),
    notAfter: new Date(Date.now() + to * hour),
    extensions: m.leafExtensions(ID, {
      names: CHOICES.names[recipe.names] ?? [],
      basic: m.basicConstraints(CHOICES.ca[recipe.ca] ?? false),
      usage: m.keyUsage(CHOICES.usage[recipe.usage] ?? 0, CHOICES.critical[recipe.critical] ?? true),
      extended: extended.length > 0 ? m.extendedKeyUsage(...extended) : undefined,
    }),
  })
  return { leaf, good }
}
