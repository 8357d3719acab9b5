import { isIP } from 'node:net'
import { fail, ok, type Result } from '../lib/result.ts'

/** Reads the value of a flag such as `--ads`: `IP:PORT` or `[IPV6]:PORT`, port 0 (any free one) allowed; `localhost` too. */
export function listenAddress(
  text: string,
): Result<{ readonly host: string; readonly port: number }, string> {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]\s]+)):(\d{1,5})$/.exec(text)
  const host = match?.[1] ?? match?.[2] ?? ''
  const port = Number(match?.[3] ?? Number.NaN)
  if ((isIP(host) === 0 && host !== 'localhost') || !(port <= 65_535)) {
    return fail(`found "${text}", expected IP:PORT such as 127.0.0.1:15000`)
  }
  return ok({ host, port })
}
