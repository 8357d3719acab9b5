import t from 'tap'
import { createCa } from '../../src/identity/ca.ts'
import { explainFailover } from '../../src/model/explain.ts'
import { gateway, peer, reachability, service, setting, workspace } from '../resources/world.ts'
import { TestCluster } from './cluster.ts'

const NAME = 'global-gwinternal-productpage-bookinfo-svc-cluster-local'

t.test(
  'a port that is something else in another cluster stands in the status of both objects, as long as it is',
  async (t) => {
    const ca = await createCa({ trustDomain: 'cluster-2.local' })
    const networks = reachability(['cluster-1', 'cluster-2'], { 'cluster-2-network': 'cluster-1-network' })
    const far = await TestCluster.start('cluster-1', {
      yaml:
        service({ name: 'productpage', pods: ['10.0.1.10:8080'] }) +
        gateway('203.0.113.10') +
        workspace +
        setting() +
        networks +
        peer('cluster-2', ca.bundlePem),
    })
    t.teardown(() => far.stop())
    const same = service({ name: 'productpage', pods: ['10.0.2.10:8080'] })
    const other = same.replaceAll('"name":"http"', '"name":"tcp"')
    t.not(other, same)
    const near = await TestCluster.start('cluster-2', {
      ca,
      yaml: other + networks + peer('cluster-1', far.ca.bundlePem, `127.0.0.1:${far.port}`),
    })
    t.teardown(() => near.stop())
    const conflicts = () =>
      (['ServiceEntry', 'Service'] as const).flatMap((kind) =>
        near.store
          .list(kind)
          .flatMap(({ metadata, conditions }) =>
            conditions
              .filter(({ reason }) => reason === 'PortConflict')
              .map(({ type, status, message }) => `${kind} ${metadata.name} ${type}=${status}: ${message}`),
          ),
      )
    await near.poll('both', () => conflicts().length === 2)
    t.match(conflicts(), [
      new RegExp(
        `^ServiceEntry ${NAME} Agreed=False: .*port 9080 is tcp in cluster-2, which counts, and http in cluster-1$`,
      ),
      /^Service productpage Agreed=False/,
    ])
    const { model } = near.discovery
    t.match(model && explainFailover(model, 'productpage.bookinfo', 9080), {
      source: 'the default',
      serving: 0,
      levels: [[{ cluster: 'cluster-2', ready: 1 }], [{ cluster: 'cluster-1', ready: 1 }]],
    })
    await near.apply(same)
    await near.poll('neither', () => conflicts().length === 0)
  },
)
