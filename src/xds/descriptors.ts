import { readFileSync } from 'node:fs'
import { createFileRegistry, type FileRegistry, fromBinary } from '@bufbuild/protobuf'
import { FileDescriptorSetSchema } from '@bufbuild/protobuf/wkt'

let registry: FileRegistry | undefined

/**
 * Envoy's messages as JSON and YAML have them: those of the generated code, with the fields that it is too old for, and the bootstrap.
 * Read when it is first asked for; a process that only carries traffic never asks.
 */
export function envoyDescriptors(): FileRegistry {
  registry ??= createFileRegistry(
    fromBinary(FileDescriptorSetSchema, readFileSync(new URL('gen/envoy.binpb', import.meta.url))),
  )
  return registry
}
