import type { GeneralName, NameConstraints } from './certificate-extensions.ts'

/**
 * Why a CA's name constraints forbid a leaf's names, or undefined (RFC 5280 section 4.2.1.10). The TLS library checks them
 * too, but along a path of its own choosing in the pooled list; ours is the path that counts.
 * A constraint on a kind of name that we do not read forbids every name of those kinds: refusing is the safe side.
 */
export function nameConstraintError(
  constraints: NameConstraints,
  names: readonly GeneralName[],
): string | undefined {
  for (const name of names) {
    const of = (list: readonly GeneralName[]) => list.filter(({ kind }) => kind === name.kind)
    const permitted = of(constraints.permitted)
    if (permitted.length > 0 && !permitted.some((constraint) => matches(constraint, name))) {
      return `its issuer may not sign for ${printable(name.value)}`
    }
    if (of(constraints.excluded).some((constraint) => name.kind === 'other' || matches(constraint, name))) {
      return `its issuer is excluded from signing for ${printable(name.value)}`
    }
  }
  return undefined
}

function matches(constraint: GeneralName, name: GeneralName): boolean {
  const wanted = constraint.value.toLowerCase()
  switch (name.kind) {
    case 'uri': {
      const host = /^[a-z][a-z0-9+.-]*:\/\/([^/?#]*)/i.exec(name.value)?.[1]?.toLowerCase()
      if (host === undefined) return false
      return wanted.startsWith('.') ? host.endsWith(wanted) : host === wanted
    }
    case 'dns': {
      const host = name.value.toLowerCase()
      return wanted === '' || host === wanted || host.endsWith(`.${wanted}`)
    }
    case 'other':
      return false
  }
}

/** Names come from a peer: quoted, cut, and without control characters before they reach a log. */
export function printable(text: string): string {
  return JSON.stringify(text.length > 120 ? `${text.slice(0, 120)}…` : text)
}
