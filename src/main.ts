// The program: picks the command by its first word and loads only that command's code (a launcher must stay small, and
// the gateway must not pay for the Kubernetes client). Run through src/isthmus.js, which finds the right Node.
import type { Command } from 'commander'
import { holdLifeline } from './lib/lifeline.ts'

interface CommandModule {
  command(): Command
}

const COMMANDS: Readonly<
  Record<string, { readonly about: string; readonly load: () => Promise<CommandModule> }>
> = {
  demo: {
    about: 'two clusters on this machine, from plain YAML: the story, then yours to edit',
    load: () => import('./cli/demo.ts'),
  },
  gateway: { about: 'the data plane pod of a serving cluster', load: () => import('./cli/gateway.ts') },
  sidecar: {
    about: 'the calling side: DNS, listeners, SOCKS5 and CONNECT',
    load: () => import('./cli/sidecar.ts'),
  },
  discovery: {
    about: 'the xDS server and controllers of one cluster',
    load: () => import('./cli/discovery.ts'),
  },
  apply: { about: 'create or update objects in a directory of YAML', load: () => import('./cli/apply.ts') },
  delete: { about: 'delete objects from a directory of YAML', load: () => import('./cli/delete.ts') },
  get: { about: 'show objects and their status', load: () => import('./cli/get.ts') },
  status: { about: 'what a cluster exposes, imports and awaits', load: () => import('./cli/status.ts') },
  topology: {
    about: 'clusters, networks, gateways, and who reaches what',
    load: () => import('./cli/topology.ts'),
  },
  plan: {
    about: 'what applying or deleting objects would change, and for whom',
    load: () => import('./cli/plan.ts'),
  },
  explain: { about: 'why a call works or does not, hop by hop', load: () => import('./cli/explain.ts') },
  certs: { about: 'certificates for development, tests and import', load: () => import('./cli/certs.ts') },
  link: { about: 'link two clusters: create a token, accept it', load: () => import('./cli/link.ts') },
  unlink: { about: 'forget another cluster, and say who loses what', load: () => import('./cli/unlink.ts') },
  drain: { about: 'drain a gateway or sidecar and wait for the end', load: () => import('./cli/drain.ts') },
  bench: { about: 'load a gateway, and see what it takes', load: () => import('./cli/bench.ts') },
  bookinfo: { about: 'the example application', load: () => import('./cli/bookinfo.ts') },
  subset: { about: 'what of Envoy is supported', load: () => import('./cli/subset.ts') },
  supervisor: { about: '', load: () => import('./cli/supervisor.ts') },
  worker: { about: '', load: () => import('./cli/worker.ts') },
}

/** Bad usage or configuration, as in sysexits.h. */
const EXIT_USAGE = 64

function usage(): string {
  const lines = Object.entries(COMMANDS)
    .filter(([, { about }]) => about !== '')
    .map(([name, { about }]) => `  ${name.padEnd(11)}${about}`)
  return [
    'isthmus: an east-west gateway for Kubernetes',
    '',
    ...lines,
    '',
    'isthmus <command> --help says more',
    '',
  ].join('\n')
}

const [name = '--help', ...rest] = process.argv.slice(2)
holdLifeline()
if (name === '--help' || name === '-h' || name === 'help') {
  process.stdout.write(usage())
} else {
  const entry = COMMANDS[name]
  if (entry === undefined) {
    process.stderr.write(`isthmus: there is no command "${name}"\n\n${usage()}`)
    process.exitCode = EXIT_USAGE
  } else {
    const { command } = await entry.load()
    await command().parseAsync(rest, { from: 'user' })
  }
}
