import { extname } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Container } from '../../objects/types.ts'

/** The image that holds this program: its containers run as the very program that runs the demo. */
const OWN_IMAGE = /(^|\/)isthmus(:|@|$)/

/** This program as a command: the same Node, the same main module, compiled or not. */
export const ISTHMUS: readonly [string, string] = [
  process.execPath,
  fileURLToPath(new URL(`../../main${extname(import.meta.url)}`, import.meta.url)),
]

export interface ContainerCommand {
  readonly argv: readonly [string, ...string[]]
  /** A program of the host. */
  readonly foreign: boolean
  /** `isthmus gateway`. */
  readonly gateway: boolean
}

/** What a container runs on this machine; undefined for an image that cannot be run here (no image store, no `command`). */
export function containerCommand(container: Container): ContainerCommand | undefined {
  const words = [...container.command, ...container.args]
  if (OWN_IMAGE.test(container.image)) {
    const own = words[0] === 'isthmus' || words[0]?.endsWith('/isthmus') === true ? words.slice(1) : words
    const args = own.slice(entrypointLength(own))
    return { argv: [...ISTHMUS, ...args], foreign: false, gateway: args[0] === 'gateway' }
  }
  const [program, ...args] = container.command
  if (program === undefined) return undefined
  return { argv: [program, ...args, ...container.args], foreign: true, gateway: false }
}

/** `node /app/src/isthmus.js gateway …` names the image's own Node and bin, which are others here. */
function entrypointLength(words: readonly string[]): number {
  const bin = words.findIndex((word) => word.endsWith('isthmus.js'))
  return bin === -1 ? 0 : bin + 1
}
