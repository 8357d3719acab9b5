import { VERSION } from '../lib/version.ts'

/**
 * Why two releases do not talk to each other; undefined when they do. One release apart is tolerated (`major.minor`; from one major to
 * the next, any of the old one to the first of the new one), so that clusters are upgraded one after the other. One that does not
 * say its release is older than the saying, or another product, and is believed as far as it can be understood.
 */
export function versionSkew(theirs: unknown, ours: string = VERSION): string | undefined {
  const [a, b] = [releaseOf(ours), releaseOf(theirs)]
  if (a === undefined || b === undefined) return undefined
  const [older, newer] = a.major * 1e6 + a.minor <= b.major * 1e6 + b.minor ? [a, b] : [b, a]
  const near =
    older.major === newer.major
      ? newer.minor - older.minor <= 1
      : newer.major - older.major === 1 && newer.minor === 0
  if (near) return undefined
  return `VersionSkew: it runs release ${String(theirs).slice(0, 32)}, this is ${ours}; at most one release apart is understood`
}

function releaseOf(text: unknown): { readonly major: number; readonly minor: number } | undefined {
  const match = typeof text === 'string' ? /^(\d{1,5})\.(\d{1,5})\./.exec(text) : null
  return match === null ? undefined : { major: Number(match[1]), minor: Number(match[2]) }
}
