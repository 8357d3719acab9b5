#!/usr/bin/env node
// The bin. Plain JavaScript that any Node can read: it finds a Node that can run Isthmus (>= 24; the
// platform package among the optional dependencies when the caller's is older) and hands over to it.
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const here = dirname(fileURLToPath(import.meta.url))
const built = join(here, '..', 'dist', 'main.js')
const main = existsSync(built) ? built : join(here, 'main.ts')

if (Number(process.versions.node.split('.')[0]) >= 24) {
  // In this process: PID 1 of a container is the program itself.
  process.argv[1] = main
  await import(main)
} else {
  const node = findNode()
  if (node === undefined) {
    console.error(
      `isthmus: needs Node 24 or newer, this is ${process.version} and no platform package is installed; run "npm ci" with optional dependencies, or install Node 24`,
    )
    process.exit(78)
  }
  const child = spawn(node, [main, ...process.argv.slice(2)], { stdio: 'inherit' })
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal))
  child.on('exit', (code, signal) => process.exit(code ?? (signal === null ? 1 : 128)))
}

function findNode() {
  const require = createRequire(import.meta.url)
  try {
    return join(
      dirname(require.resolve(`node-${process.platform}-${process.arch}/package.json`)),
      'bin',
      'node',
    )
  } catch {
    return undefined
  }
}
