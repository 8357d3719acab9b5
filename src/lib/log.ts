import { type DestinationStream, type Logger, pino } from 'pino'
import { LogSink } from './log-sink.ts'

export type { Logger }

export interface LogOptions {
  /** The part of the product that speaks: `gateway`, `discovery`, `supervisor`, … */
  readonly name: string
  /** pino level; default `info`. */
  readonly level?: string
  readonly cluster?: string
  /** Where lines go; default standard output, synchronously. */
  readonly sink?: DestinationStream
}

/**
 * JSON lines on standard output, written synchronously: a line that was logged is not lost when the process is killed,
 * and no worker thread is started. Levels by name, time in ISO 8601. Who must not wait for the reader of his log gives a `LogSink`.
 */
export function createLogger(options: LogOptions): Logger {
  const { name, level = 'info', cluster, sink } = options
  const settings = {
    name,
    level,
    base: (cluster ?? '') === '' ? {} : { cluster },
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label: string) => ({ level: label }) },
  }
  return sink === undefined ? pino(settings) : pino(settings, sink)
}

/** A logger that never waits for its reader, and what it writes to. */
export function createUnhurriedLogger(options: Omit<LogOptions, 'sink'>): { logger: Logger; sink: LogSink } {
  const { name, cluster } = options
  const describeLoss = (dropped: number): string => {
    const msg = 'log lines were dropped: nobody reads them fast enough'
    const time = new Date().toISOString()
    return `${JSON.stringify({ level: 'warn', time, name, cluster, dropped, msg })}\n`
  }
  const sink = new LogSink({ describeLoss })
  return { logger: createLogger({ ...options, sink }), sink }
}

/** For tests and for parts that are used as a library. */
export const silentLogger: Logger = pino({ level: 'silent' })
