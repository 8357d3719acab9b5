import { fail, ok, type Result } from '../lib/result.ts'

const UNITS: Readonly<Record<string, number>> = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 }

/** `30s`, `90m`, `24h`, `365d`, or several in a row as in `1d12h`, in milliseconds. */
export function parseLifetime(text: string): Result<number, string> {
  const parts = [...text.matchAll(/(\d+)([smhd])/g)]
  const whole = parts.map(([part]) => part).join('')
  const ms = parts.reduce((sum, [, count, unit]) => sum + Number(count) * (UNITS[unit ?? ''] ?? 0), 0)
  if (text === '' || whole !== text || ms <= 0 || !Number.isSafeInteger(ms)) {
    return fail(`"${text}" is no lifetime; write for example 90m, 24h or 365d`)
  }
  return ok(ms)
}

/** The two largest units, for people: `364d 23h`, `59m 3s`, `12s`; `expired` from zero on. */
export function formatLifetime(ms: number): string {
  if (ms <= 0) return 'expired'
  let rest = Math.floor(ms / 1000)
  const parts: string[] = []
  for (const [unit, size] of [
    ['d', 86_400],
    ['h', 3_600],
    ['m', 60],
    ['s', 1],
  ] as const) {
    const count = Math.floor(rest / size)
    rest -= count * size
    if (count > 0 || parts.length > 0 || unit === 's') parts.push(`${count}${unit}`)
  }
  return parts.slice(0, 2).join(' ')
}
