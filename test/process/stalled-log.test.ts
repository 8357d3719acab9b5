import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, constants, openSync, readSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import t from 'tap'
import { readAll } from '../proxy/support.ts'
import { echoes, World } from './gateway-world.ts'
import { eventually, freePort, MAIN, onLoopback } from './pod.ts'

/** What a pipe and the buffer of a worker hold, in lines, and some more. */
const LINES = 3_000

const value = (text: string, name: string): number =>
  Number(new RegExp(`^${name} (\\d+)$`, 'm').exec(text)?.[1] ?? 0)

t.test(
  'a log that nobody reads stops no traffic; what is lost is counted, and said once somebody reads',
  async (t) => {
    const world = await World.create(t)
    const [health, metrics] = [await freePort(), await freePort()]
    const path = join(world.cluster.folder, 'log')
    execFileSync('mkfifo', [path])
    const log = openSync(path, constants.O_RDWR | constants.O_NONBLOCK)
    t.teardown(() => closeSync(log))
    const ports = ['--health', `127.0.0.1:${health}`, '--metrics', `127.0.0.1:${metrics}`]
    const args = world.args(...ports, '--access-log', 'json', '--workers', '1')
    const pod = spawn(process.execPath, [MAIN, ...args], {
      stdio: ['ignore', log, 'inherit'],
      env: onLoopback(),
    })
    const ended = once(pod, 'exit')
    t.teardown(async () => {
      pod.kill('SIGKILL')
      await ended
    })
    await eventually(
      () =>
        fetch(`http://127.0.0.1:${health}/readyz`).then(
          ({ status }) => status,
          () => 0,
        ),
      (status) => status === 200,
    )
    const open = await world.connect()
    // Refused at the first byte: a line each.
    for (let sent = 0; sent < LINES; sent += 100)
      await Promise.all(Array.from({ length: 100 }, () => refused(world.port)))
    const scrape = async () => (await fetch(`http://127.0.0.1:${metrics}/metrics`)).text()
    const text = await scrape()
    const lost = value(text, 'isthmus_log_lines_dropped_total')
    t.ok(lost > 0, `${lost} lines were lost`)
    t.match(text, `flag="TLS_HELLO"} ${LINES}\n`, 'none of them was not served for it')
    t.equal(await echoes(open, 'an open connection goes on'), 'an open connection goes on')
    t.equal(await echoes(await world.connect(), 'a new one too'), 'a new one too')

    let seen = ''
    await eventually(
      async () => {
        seen += readSome(log)
        return seen
      },
      (all) => all.includes('"dropped":'),
    )
    const lines = seen
      .slice(0, seen.lastIndexOf('\n'))
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>)
    const access = lines.filter(({ msg }) => msg === 'access')
    const [loss] = lines.filter(({ dropped }) => dropped !== undefined)
    t.match(loss, { level: 'warn', name: 'gateway', dropped: lost })
    t.equal(access.length + lost, LINES, 'every line is whole, or counted')
  },
)

async function refused(port: number): Promise<void> {
  const socket = connect(port, '127.0.0.1')
  socket.write('GET / HTTP/1.1\r\n\r\n')
  await readAll(socket)
  socket.destroy()
}

function readSome(fd: number): string {
  const buffer = Buffer.alloc(1 << 16)
  try {
    return buffer.toString('utf8', 0, readSync(fd, buffer))
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EAGAIN') return ''
    throw error
  }
}
