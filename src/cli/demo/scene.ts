import type { Commands } from './commands.ts'
import type { Stage } from './stage.ts'
import type { World } from './world.ts'

export interface Scene {
  readonly world: World
  readonly stage: Stage
  readonly commands: Commands
}

export interface Step {
  readonly id: string
  readonly title: string
  /** Throws `StepFailed` when what it shows is not true. */
  readonly play: (scene: Scene) => Promise<void>
}
