/** 12,345 or 1.23: three digits at least, and none that mean nothing. */
export function formatNumber(value: number): string {
  const size = Math.abs(value)
  const digits = Number.isInteger(value) ? 0 : size < 10 ? 2 : size < 100 ? 1 : 0
  return value.toLocaleString('en-US', { minimumFractionDigits: digits, maximumFractionDigits: digits })
}

export function formatMicroseconds(us: number): string {
  if (us < 1_000) return `${formatNumber(us)} µs`
  return us < 10_000_000 ? `${formatNumber(us / 1_000)} ms` : `${formatNumber(us / 1_000_000)} s`
}

/** Millions of bytes, without their unit. */
export function megabytes(bytes: number): string {
  return formatNumber(bytes / 1_000_000)
}
