const LOOK_MS = 20
const LONGEST_MS = 120_000

/** Asks until there is an answer: for what no event tells of another process. Rejects after two minutes, saying what did not come. */
export async function eventually<T>(what: string, ask: () => T | Promise<T>): Promise<NonNullable<T>> {
  const until = performance.now() + LONGEST_MS
  for (;;) {
    const answer = await ask()
    if (answer !== undefined && answer !== null) return answer
    if (performance.now() > until)
      throw new Error(`within ${LONGEST_MS / 1_000} s this did not come true: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS))
  }
}
