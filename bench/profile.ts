// Where a target's CPU goes, by perf, while it is under load: kernel, crypto, runtime, or our own script.
import { execFile, spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { processesOf } from './process-stats.ts'

export const SHARES = ['kernel', 'crypto', 'our script', 'runtime and the rest'] as const

export type Share = (typeof SHARES)[number]

export interface Profile {
  readonly target: string
  readonly load: string
  /** 0 to 1. */
  readonly shares: Readonly<Record<Share, number>>
  /** The program has no symbols for its own code: what is crypto in it cannot be told from the rest. */
  readonly stripped: boolean
  readonly samples: number
  /** The costliest symbols, with their share. */
  readonly top: readonly (readonly [symbol: string, share: number])[]
}

/** Samples a second: a prime, so that it does not beat with timers. */
const FREQUENCY = 997
const TOP = 12

/** perf, where it is there and may look at this process; else why not. */
export function perfUnavailable(): string | undefined {
  const { error, status, stderr } = spawnSync('perf', ['stat', '-e', 'cpu-clock', 'true'], {
    encoding: 'utf8',
  })
  if (error !== undefined) return '`perf` is not on PATH'
  return status === 0 ? undefined : (stderr.split('\n').find(Boolean) ?? `perf ended with ${status}`)
}

/** Samples a process, with those that it started, for some seconds and sorts what it was found in. */
export async function profile(
  pid: number,
  seconds: number,
  folder: string,
): Promise<Omit<Profile, 'target' | 'load'>> {
  const data = join(folder, `perf-${pid}.data`)
  const run = promisify(execFile)
  const event = ['-e', 'cpu-clock', '-F', String(FREQUENCY)]
  await run('perf', [
    'record',
    ...event,
    '-o',
    data,
    '-p',
    processesOf(pid).join(','),
    '--',
    'sleep',
    String(seconds),
  ])
  const fields = ['-F', 'sample,dso,symbol', '--field-separator', '|', '--no-children']
  const { stdout } = await run('perf', ['report', '-i', data, ...fields, '--stdio', '--full-source-path'], {
    maxBuffer: 64 << 20,
  })
  return sorted(stdout)
}

/** Reads `perf report`: samples, object and symbol on each line. */
export function sorted(text: string): Omit<Profile, 'target' | 'load'> {
  const rows = [...text.matchAll(/^\s*(\d+)\s*\|\s*([^|]+?)\s*\|\s*(.+?)\s*$/gm)].map(
    ([, samples, dso = '', symbol = '']) => ({ samples: Number(samples), dso, symbol }),
  )
  const total = rows.reduce((sum, { samples }) => sum + samples, 0)
  const shares: Record<Share, number> = { kernel: 0, crypto: 0, 'our script': 0, 'runtime and the rest': 0 }
  for (const { samples, dso, symbol } of rows) shares[shareOf(dso, symbol)] += samples / total
  const own = rows.filter(({ dso, symbol }) => shareOf(dso, symbol) === 'runtime and the rest')
  const nameless = own.filter(({ symbol }) => /0x[0-9a-f]+$/.test(symbol))
  const sum = (some: typeof rows): number => some.reduce((all, { samples }) => all + samples, 0)
  return {
    shares,
    stripped: sum(nameless) > sum(own) / 2,
    samples: total,
    top: [...rows]
      .sort((a, b) => b.samples - a.samples)
      .slice(0, TOP)
      .map(({ symbol, samples }) => [symbol.replace(/^\[.\] /, ''), samples / total] as const),
  }
}

const CRYPTO =
  /^(aes|aesni|gcm|ghash|gmul|vaes|sha\d|sha_|ecp_|ec_|EC_|ecdsa|ECDSA|ecdh|x25519|x448|fe\d|fiat|bn_|BN_|EVP_|evp_|ossl_|OSSL|OPENSSL|CRYPTO_|ssl|SSL|tls|TLS|X509|x509|ASN1|asn1|d2i_|i2d_|PEM|HMAC|hmac|rand_|RAND_|ENGINE|OBJ_|BIO_|bio_|provider|err_|ERR_|lh_|sk_|OPENSSL_sk|statem|dtls|wpacket|WPACKET|packet|chacha|poly1305|beeu|p256|__ecp|ecp_nistz|construct_|core_|prov|hkdf|kdf)/i

/** In which part a sample was. */
export function shareOf(dso: string, symbol: string): Share {
  const name = symbol.replace(/^\[(.)\]\s*/, '')
  if (/^\[k\]/.test(symbol) || /kernel|\[vdso\]|vmlinux/.test(dso)) return 'kernel'
  if (/libcrypto|libssl/.test(dso)) return 'crypto'
  // Code compiled just in time lies in memory that belongs to no file; V8's interpreter is what runs script that is not compiled yet.
  if (
    /^(\/\/anon|\[JIT\]|anon|\[unknown\]|perf-\d+\.map|memfd:.*)/i.test(dso) ||
    /^Builtins_(Interpreter|.*Handler)/.test(name)
  )
    return 'our script'
  if (CRYPTO.test(name)) return 'crypto'
  return 'runtime and the rest'
}
