import { readdirSync, readFileSync } from 'node:fs'

/** A process and everything below it, parents first; empty for no process. */
export type ProcessTree = (pid: number | undefined) => number[]

/** What /proc says now, read once for all that is asked of it. The pid alone where /proc cannot be read. */
export function readProcessTree(): ProcessTree {
  const children = childrenByParent()
  return (pid) => {
    const tree = pid === undefined ? [] : [pid]
    for (const parent of tree) tree.push(...(children.get(parent) ?? []))
    return tree
  }
}

function childrenByParent(): Map<number, number[]> {
  const children = new Map<number, number[]>()
  for (const entry of listProc()) {
    const pid = Number(entry)
    if (!Number.isInteger(pid)) continue
    const parent = parentOf(pid)
    if (parent !== undefined) children.set(parent, [...(children.get(parent) ?? []), pid])
  }
  return children
}

function listProc(): string[] {
  try {
    return readdirSync('/proc')
  } catch {
    return []
  }
}

/** `pid (comm) state ppid …`: comm may hold spaces and parentheses, so the fields are counted from its last `)`. */
function parentOf(pid: number): number | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1])
  } catch {
    return undefined
  }
}
