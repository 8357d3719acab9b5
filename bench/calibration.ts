// A fixed piece of work, in a process of its own on the target's CPU: what it costs says how fast the machine is at this moment.
// Signatures, hashes and copies, since a TLS proxy does little else.
import { type ChildProcess, spawn } from 'node:child_process'
import { createHash, generateKeyPairSync, sign } from 'node:crypto'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { median } from './statistics.ts'

const SIGNATURES = 240
const COPIES = 96
const HASHES = 24
const LOOPS = 5
const MB = 1_000_000

const script = fileURLToPath(import.meta.url)

/** What the fixed work costs now: microseconds of CPU, the median of five loops of some 20 ms. */
export type Calibrate = () => Promise<number>

/** `prefix`: what stands before a command so that it runs on a certain CPU. */
export function startCalibration(prefix: readonly string[]): { readonly calibrate: Calibrate; stop(): void } {
  const [command = '', ...args] = [...prefix, process.execPath, script]
  const child: ChildProcess = spawn(command, args, { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] })
  const gone = once(child, 'exit').then(([code]) =>
    Promise.reject<never>(new Error(`the calibration ended with ${code}`)),
  )
  // Who waits for an answer hears of it; nobody else need.
  gone.catch(() => {})
  const message = (): Promise<unknown> =>
    Promise.race([once(child, 'message').then(([answer]) => answer as unknown), gone])
  const ready = message()
  ready.catch(() => {})
  return {
    async calibrate() {
      await ready
      child.send('loop')
      return Number(await message())
    },
    stop: () => child.connected && child.disconnect(),
  }
}

function serve(): void {
  process.on('disconnect', () => process.exit(0))
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const from = Buffer.alloc(MB, 'x')
  const to = Buffer.alloc(MB)
  const loop = (): number => {
    const before = process.cpuUsage()
    for (let i = 0; i < SIGNATURES; i++) sign('sha256', from.subarray(0, 100), privateKey)
    for (let i = 0; i < COPIES; i++) from.copy(to)
    for (let i = 0; i < HASHES; i++) createHash('sha256').update(to).digest()
    const { user, system } = process.cpuUsage(before)
    return user + system
  }
  // Compiled before it counts.
  for (let i = 0; i < LOOPS; i++) loop()
  process.on('message', () => process.send?.(median(Array.from({ length: LOOPS }, loop))))
  // Whoever asked may have gone meanwhile.
  process.send?.('ready', () => {})
}

if (process.argv[1] === script) serve()
