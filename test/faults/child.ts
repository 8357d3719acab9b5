// A helper process of the suite: told by messages, killed and stopped at will, gone with its parent.
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'

export class Child<Message extends object> {
  readonly process: ChildProcess
  readonly #exited: Promise<unknown>

  constructor(file: string, options: object, onMessage: (message: Message) => void) {
    this.process = fork(fileURLToPath(new URL(file, import.meta.url)), [], { serialization: 'advanced' })
    this.#exited = once(this.process, 'exit')
    this.process.on('message', onMessage).on('error', () => {})
    this.process.send(options)
  }

  get connected(): boolean {
    return this.process.connected
  }

  send(message: object): void {
    if (this.process.connected) this.process.send(message, () => {})
  }

  signal(signal: NodeJS.Signals): void {
    this.process.kill(signal)
  }

  async kill(): Promise<void> {
    this.process.kill('SIGKILL')
    await this.#exited
  }
}

/** Answers to numbered orders. */
export class Orders {
  #last = 0
  readonly #waiting = new Map<number, () => void>()

  /** Sends an order and resolves with its answer. */
  give(send: (id: number) => void): Promise<void> {
    const id = ++this.#last
    return new Promise((resolve) => {
      this.#waiting.set(id, resolve)
      send(id)
    })
  }

  /** Nobody will answer any more. */
  abandon(): void {
    for (const id of [...this.#waiting.keys()]) this.done(id)
  }

  done(id: number): void {
    this.#waiting.get(id)?.()
    this.#waiting.delete(id)
  }
}
