import { type Logger, pino } from 'pino'

export type { Logger }

export interface LogOptions {
  /** The part of the product that speaks: `gateway`, `discovery`, `supervisor`, … */
  readonly name: string
  /** pino level; default `info`. */
  readonly level?: string
  readonly cluster?: string
}

/**
 * JSON lines on standard output, written synchronously: a line that was logged is not lost when the process is killed,
 * and no worker thread is started. Levels by name, time in ISO 8601.
 */
export function createLogger(options: LogOptions): Logger {
  const { name, level = 'info', cluster } = options
  return pino({
    name,
    level,
    base: cluster === undefined ? {} : { cluster },
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label) => ({ level: label }) },
  })
}

/** For tests and for parts that are used as a library. */
export const silentLogger: Logger = pino({ level: 'silent' })
