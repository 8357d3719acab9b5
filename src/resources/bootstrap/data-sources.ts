import type { Message } from '@bufbuild/protobuf'
import type { DataSource, WatchedDirectory } from '../../xds/gen/envoy/config/core/v3/base_pb.js'
import type { BootstrapContext } from './context.ts'

/** Puts what a `DataSource` names, a file or a variable of the environment, in its place. The engine takes nothing but text. */
export function resolveDataSource(context: BootstrapContext, message: Message, path: string): void {
  const source = message as DataSource
  const { specifier } = source
  if (specifier.case === 'filename') {
    const { value: file } = specifier
    source.specifier = { case: 'inlineString', value: context.read(file, `${path}.filename`) }
    context.sources.set(source, file)
  }
  if (specifier.case === 'environmentVariable') {
    const value = process.env[specifier.value]
    if (value === undefined) context.refuse(`${path}.environment_variable`, `${specifier.value} is not set`)
    source.specifier = { case: 'inlineString', value: value ?? '' }
  }
  takeWatchedDirectory(context, source)
}

/** A directory whose change means new files. Every file is watched here anyway, whatever replaces it. */
export function takeWatchedDirectory(
  context: BootstrapContext,
  holder: { watchedDirectory?: WatchedDirectory | undefined },
): void {
  if (holder.watchedDirectory === undefined) return
  context.files.add(holder.watchedDirectory.path)
  holder.watchedDirectory = undefined
}
