import { Command } from 'commander'
import { subsetMarkdown } from './subset-markdown.ts'

/** `isthmus subset`: what of Envoy's configuration is supported, as the code has it. */
export function command(): Command {
  return new Command('isthmus subset')
    .description("what of Envoy's messages is supported, in Markdown")
    .action(() => void process.stdout.write(`${subsetMarkdown()}\n`))
}
