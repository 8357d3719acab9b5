import t, { type Test } from 'tap'
import { findRuntime } from '../../src/cli/runtime.ts'

/** The same subtests with workers on Node and on Bun. Where Bun is not installed they are skipped, but not in CI. */
export function onEachRuntime(define: (t: Test, runtime: 'node' | 'bun') => void): void {
  for (const runtime of ['node', 'bun'] as const) {
    const found = findRuntime(runtime)
    if (found.ok || process.env['CI'] !== undefined) t.test(`on ${runtime}`, async (t) => define(t, runtime))
    else t.test(`on ${runtime}`, { skip: found.error }, async () => {})
  }
}
