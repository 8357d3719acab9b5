import { setTimeout as sleep } from 'node:timers/promises'

/** Waits until it is so: for facts that no event tells. Throws with these words after `ms`. */
export async function becomes(
  words: string,
  ms: number,
  so: () => boolean | Promise<boolean>,
): Promise<number> {
  const begun = Date.now()
  while (!(await so())) {
    if (Date.now() - begun > ms) throw new Error(`not within ${ms} ms: ${words}`)
    await sleep(10)
  }
  return Date.now() - begun
}
