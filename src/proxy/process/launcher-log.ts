/** One line of a launcher's log. */
export interface LauncherEntry {
  readonly level: 'info' | 'warn'
  readonly msg: string
  readonly [field: string]: unknown
}

/** Standard output, in the shape of the other processes' lines, without their logger. */
export function printEntry({ level, ...fields }: LauncherEntry): void {
  process.stdout.write(
    `${JSON.stringify({ level, time: new Date().toISOString(), name: 'launcher', ...fields })}\n`,
  )
}
