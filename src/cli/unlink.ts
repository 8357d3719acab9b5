import { Command } from 'commander'
import { LINKED_LABEL } from '../discovery/link-objects.ts'
import { isPeerSecret } from '../model/clusters.ts'
import type { ObjectStore } from '../objects/store.ts'
import { type KubeObject, refKey, refOf } from '../objects/types.ts'
import { requestJson } from './admin-request.ts'
import {
  EXIT_USAGE,
  openStore,
  processTerminal,
  type StoreOptions,
  storeOptionsOf,
  type Terminal,
  withStoreOptions,
} from './object-command.ts'

interface UnlinkOptions extends StoreOptions {
  readonly admin: string
}

/** `isthmus unlink CLUSTER`: this cluster forgets another, and says who loses access to what. */
export function command(): Command {
  const unlink = withStoreOptions(new Command('isthmus unlink'))
    .description('forget another cluster: its callers are refused here, and its exports are gone')
    .argument('<cluster>', 'name of the other cluster')
    .option('--admin <host:port>', "admin port of this cluster's discovery", '127.0.0.1:15000')
    .action(async (cluster: string) => {
      const options = { ...unlink.opts<UnlinkOptions>(), ...storeOptionsOf(unlink) }
      process.exitCode = await runUnlink(cluster, options, processTerminal)
    })
  return unlink
}

/** Exit codes: 0; 1 when there is no such link, or an object could not be deleted; 64 bad usage. */
async function runUnlink(cluster: string, options: UnlinkOptions, terminal: Terminal): Promise<number> {
  const store = await openStore(options, terminal)
  if (store === undefined) return EXIT_USAGE
  const objects = linkObjects(store, cluster)
  if (objects.length === 0) {
    terminal.err(`isthmus unlink: ${cluster} is not linked with this cluster\n`)
    return 1
  }
  // Asked before: afterwards nobody knows any more.
  const lost = await lostAccess(options.admin, cluster)
  for (const object of objects) {
    try {
      await store.delete(refOf(object))
    } catch (error) {
      terminal.err(`isthmus unlink: ${refKey(refOf(object))}: ${(error as Error).message}\n`)
      return 1
    }
    terminal.out(`${refKey(refOf(object))} deleted\n`)
  }
  for (const line of lost) terminal.out(`${line}\n`)
  terminal.out(`${cluster} still trusts this cluster, until it is unlinked there as well\n`)
  return 0
}

function linkObjects(store: ObjectStore, cluster: string): KubeObject[] {
  const secrets = store
    .list('Secret')
    .filter((secret) => isPeerSecret(secret) && secret.spec.data['cluster'] === cluster)
  const clusters = store
    .list('Cluster')
    .filter(({ metadata }) => metadata.name === cluster && metadata.labels[LINKED_LABEL] === 'true')
  return secrets.length === 0 ? [] : [...secrets, ...clusters]
}

async function lostAccess(admin: string, cluster: string): Promise<string[]> {
  const [exported, status] = await Promise.all([
    requestJson(admin, '/exports'),
    requestJson(admin, '/status'),
  ])
  if (!exported.ok || !status.ok)
    return [
      `who loses access to what is not known: ${exported.ok ? (status.ok ? '' : status.error) : exported.error}`,
    ]
  const exports = listOf(exported.value) as { peer?: string; hosts?: string[] }[]
  const theirs = exports.find(({ peer }) => peer === cluster)?.hosts ?? []
  const { cluster: self = 'this cluster', imports } = status.value as { cluster?: string; imports?: unknown }
  const ours = (listOf(imports) as { host: string; endpoints: { cluster: string }[] }[])
    .filter(({ endpoints }) =>
      listOf(endpoints).some((one) => (one as { cluster?: string }).cluster === cluster),
    )
    .map(({ host }) => host)
  return [loses(cluster, self, theirs), loses(self, cluster, ours)]
}

function loses(who: string, whose: string, hosts: readonly string[]): string {
  if (hosts.length === 0) return `${who} loses no service of ${whose}: it could call none`
  return `${who} loses ${hosts.length} of ${whose}: ${hosts.join(', ')}`
}

const listOf = (value: unknown): readonly unknown[] => (Array.isArray(value) ? value : [])
