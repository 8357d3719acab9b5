import { isIP } from 'node:net'
import type { Authority } from './authority.ts'

/** The name servers of a resolv.conf (resolv.conf(5)), port 53, at most three as in the C library. Other lines are not ours to read. */
export function parseResolvConf(text: string): Authority[] {
  const servers: Authority[] = []
  for (const line of text.split('\n')) {
    const [keyword, address] = line.trim().split(/\s+/)
    if (keyword === 'nameserver' && address !== undefined && isIP(address) !== 0)
      servers.push({ host: address, port: 53 })
  }
  return servers.slice(0, 3)
}
