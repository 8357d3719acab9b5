// The options of `isthmus bench`: what they are, and what is wrong with the values of one.
import { lookup } from 'node:dns/promises'
import { readFileSync } from 'node:fs'
import { isIP } from 'node:net'
import { Command, Option } from 'commander'
import { fail, ok, type Result } from '../lib/result.ts'
import { Dialer } from '../load/dialer.ts'
import type { LoadTarget } from '../load/plan.ts'
import { SCENARIOS, type Scenario, type ScenarioName, type ScenarioSettings } from '../load/scenarios.ts'
import { parseAuthority } from '../proxy/names/authority.ts'
import { parseDuration } from './flag-values.ts'
import { collect } from './object-command.ts'

export interface BenchFlags {
  readonly target?: string
  readonly sni?: readonly string[]
  readonly cert?: string
  readonly key?: string
  readonly ca?: string
  readonly expectSan?: readonly string[]
  readonly alpn?: string
  readonly plain?: boolean
  readonly connections?: string
  readonly rate?: string
  readonly duration?: string
  readonly warmUp?: string
  readonly path?: string
  readonly size?: string
  readonly host?: string
  readonly stormConnections: string
  readonly stormRate?: string
  readonly life: string
  readonly think: string
  readonly timeout: string
  readonly processes: string
  readonly runtime: 'node' | 'bun'
  readonly gatewayRuntime: 'node' | 'bun'
  readonly maxErrors: string
  readonly json?: string
  readonly report?: string
  readonly quiet?: boolean
}

export function benchCommand(): Command {
  return new Command('isthmus bench')
    .description('loads a gateway, and says what it takes')
    .argument('[scenario]', `one of ${Object.keys(SCENARIOS).join(', ')}`, 'requests')
    .option(
      '--target <host:port>',
      'the gateway; without it one of our own is started on loopback, with a service',
    )
    .option('--sni <name>', 'server name of the service; may be repeated: connections take turns', collect)
    .option('--cert <file>', "the client's certificate (SVID) with its intermediates, PEM")
    .option('--key <file>', 'its key, PEM')
    .option('--ca <file>', 'the CAs that may vouch for the gateway: roots and issuing intermediates, PEM')
    .option(
      '--expect-san <uri>',
      'SPIFFE id of the gateway, verified as a sidecar does; may be repeated',
      collect,
    )
    .option('--alpn <names>', 'application protocols to offer, by commas')
    .option('--plain', 'no TLS: the service itself, for comparison')
    .option(
      '-c, --connections <n>',
      'at one time (default: 32; 8 handshakes; 4 down or up; 1,000 idle; 100 stalled)',
    )
    .option(
      '--rate <n>',
      'open loop: so many per second, whatever the target does (storm 200, churn 50; else a closed loop)',
    )
    .option('-d, --duration <time>', 'of the load; in a storm of each phase (default: 10s; 5s in a storm)')
    .option('--warm-up <time>', 'before it, left out of the figures (default: 2s; none for idle and stalled)')
    .option(
      '--path <path>',
      'of the requests (default: /, or /bytes/SIZE with --size, download and our own service)',
    )
    .option('--size <bytes>', 'of an answer of `isthmus bench backend`, or of an upload')
    .option('--host <name>', 'Host of the requests (default: isthmus-bench)')
    .option('--storm-connections <n>', 'handshakes under way at one time in the storm', '16')
    .option('--storm-rate <n>', 'handshakes per second in the storm (default: as fast as they go)')
    .option('--life <time>', 'churn: mean life of the half that lives on', '2s')
    .option('--think <time>', 'churn: from an answer to the next request', '200ms')
    .option('--timeout <time>', 'for a handshake, and for an answer', '10s')
    .option('-p, --processes <n>', 'that make the load, one core each; a storm has 2 at least', '1')
    .addOption(new Option('--runtime <name>', 'that they run on').choices(['node', 'bun']).default('node'))
    .addOption(
      new Option('--gateway-runtime <name>', 'of our own gateway').choices(['node', 'bun']).default('node'),
    )
    .option('--max-errors <n>', 'more than so many are a failure', '0')
    .option('--json <file>', 'write all figures')
    .option('--report <file>', 'write a report with plots, one HTML file')
    .option('-q, --quiet', 'nothing on the way, only the result')
    .addHelpText('after', HELP)
}

const HELP = `
Scenarios:
${Object.entries(SCENARIOS)
  .map(([name, { about }]) => `  ${name.padEnd(18)}${about}`)
  .join('\n')}

The service behind the gateway may be any that speaks HTTP/1.1. \`isthmus bench backend\` is one that costs little.
Exit codes: 0, 1 where nothing succeeded or errors exceed --max-errors, 64 bad usage.
`

export interface BenchSettings extends ScenarioSettings {
  readonly scenario: ScenarioName
  readonly processes: number
  readonly maxErrors: number
}

/** Everything but the target; the error names the option. */
export function readSettings(scenario: string, flags: BenchFlags): Result<BenchSettings, string> {
  if (!Object.hasOwn(SCENARIOS, scenario))
    return fail(`there is no scenario "${scenario}"; there are ${Object.keys(SCENARIOS).join(', ')}`)
  const name = scenario as ScenarioName
  const known: Scenario = SCENARIOS[name]
  const { rated, sized } = known
  if (flags.rate !== undefined && !rated) return fail(`--rate: ${name} has no rate`)
  if (flags.stormRate !== undefined && name !== 'storm') return fail('--storm-rate: only storm has one')
  if (flags.path !== undefined && !/^\/[!-~]*$/.test(flags.path))
    return fail(`--path: expected / and what follows, without spaces; found "${flags.path}"`)
  if (flags.host !== undefined && !/^[!-~]+$/.test(flags.host))
    return fail(`--host: expected a name, found "${flags.host}"`)
  try {
    const size = count('--size', flags.size, 0, 1e12) ?? known.size
    const rate = positive('--rate', flags.rate) ?? known.rate
    const stormRate = positive('--storm-rate', flags.stormRate)
    const ours = flags.target === undefined || flags.size !== undefined || sized
    const usual = name === 'stalled-upload' ? '/stall' : ours ? `/bytes/${size}` : '/'
    return ok({
      scenario: name,
      connections: count('--connections', flags.connections, 1, 1e6) ?? known.connections,
      ...(rate !== undefined && { rate }),
      durationMs: duration('--duration', flags.duration, 100) ?? known.durationMs,
      warmUpMs: duration('--warm-up', flags.warmUp, 0) ?? known.warmUpMs,
      path: flags.path ?? usual,
      size,
      ...(flags.host !== undefined && { host: flags.host }),
      stormConnections: count('--storm-connections', flags.stormConnections, 1, 1e5) ?? 1,
      ...(stormRate !== undefined && { stormRate }),
      lifeMs: duration('--life', flags.life, 1) ?? 1,
      thinkMs: duration('--think', flags.think, 1) ?? 1,
      timeoutMs: duration('--timeout', flags.timeout, 1) ?? 1,
      // The quiet flow has one for itself: what the storm costs the generator is none of the target's latency.
      processes: Math.max(count('--processes', flags.processes, 1, 256) ?? 1, name === 'storm' ? 2 : 1),
      maxErrors: count('--max-errors', flags.maxErrors, 0, 1e12) ?? 0,
    })
  } catch (error) {
    if (error instanceof BadValue) return fail(error.message)
    throw error
  }
}

class BadValue extends Error {}

function count(option: string, text: string | undefined, least: number, most: number): number | undefined {
  if (text === undefined) return undefined
  const value = Number(text)
  if (/^\d{1,13}$/.test(text) && value >= least && value <= most) return value
  throw new BadValue(`${option}: expected a number from ${least} to ${most}, found "${text}"`)
}

function positive(option: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined
  const value = Number(text)
  if (/^\d{1,9}(\.\d{1,6})?$/.test(text) && value > 0) return value
  throw new BadValue(`${option}: expected a number over 0, per second; found "${text}"`)
}

function duration(option: string, text: string | undefined, leastMs: number): number | undefined {
  if (text === undefined) return undefined
  const parsed = parseDuration(text)
  if (!parsed.ok) throw new BadValue(`${option}: ${parsed.error}`)
  if (parsed.value < leastMs) throw new BadValue(`${option}: expected ${leastMs}ms or more, found "${text}"`)
  return parsed.value
}

const OF_A_TARGET = ['sni', 'cert', 'key', 'ca', 'expectSan', 'alpn', 'plain'] as const

/** Undefined where there is none: then one of our own is to be started. The error names the option. */
export async function readTarget(flags: BenchFlags): Promise<Result<LoadTarget | undefined, string>> {
  if (flags.target === undefined) {
    const alone = OF_A_TARGET.find((name) => flags[name] !== undefined)
    return alone === undefined ? ok(undefined) : fail(`${optionOf(alone)}: needs --target`)
  }
  const parsed = parseAuthority(flags.target)
  if (!parsed.ok) return fail(`--target: ${parsed.error}`)
  const { host, port } = parsed.value
  const address = await addressOf(host)
  if (address === undefined) return fail(`--target: ${host} does not resolve`)
  if (flags.plain === true) {
    const tls = OF_A_TARGET.find((name) => name !== 'plain' && flags[name] !== undefined)
    return tls === undefined ? ok({ address, port }) : fail(`${optionOf(tls)}: is of no use with --plain`)
  }
  if (flags.sni === undefined && isIP(host) !== 0)
    return fail(`--sni: is missing; a gateway routes by it, and ${host} is no name`)
  const files: Record<'cert' | 'key' | 'ca', string> = { cert: '', key: '', ca: '' }
  for (const name of ['cert', 'key', 'ca'] as const) {
    const file = flags[name]
    if (file === undefined)
      return fail(`--${name}: is missing; --target wants --cert, --key and --ca (or --plain)`)
    try {
      files[name] = readFileSync(file, 'utf8')
    } catch (error) {
      return fail(`--${name}: ${file} cannot be read (${(error as NodeJS.ErrnoException).code})`)
    }
  }
  const target: LoadTarget = {
    address,
    port,
    tls: {
      serverNames: flags.sni ?? [host],
      certificatePem: files.cert,
      privateKeyPem: files.key,
      caPem: files.ca,
      ...(flags.expectSan !== undefined && { expectedIds: flags.expectSan }),
      ...(flags.alpn !== undefined && { alpn: flags.alpn.split(',') }),
    },
  }
  // Said once, here, and not by each process of the load.
  const usable = Dialer.create(target)
  return usable.ok ? ok(target) : fail(`--cert, --key, --ca or --expect-san: ${usable.error}`)
}

const optionOf = (name: string): string =>
  `--${name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`

async function addressOf(host: string): Promise<string | undefined> {
  if (isIP(host) !== 0) return host
  try {
    return (await lookup(host)).address
  } catch {
    return undefined
  }
}
