import { canonicalJson, contentHash } from '../lib/canonical.ts'
import { MANAGED_BY, MANAGER } from '../model/managed.ts'
import type { Gateway, IngressGateway, Manifest } from '../objects/types.ts'
import { refKey, refOf } from '../objects/types.ts'

/** Annotation: refKey of the object that a Deployment or Service was made for. */
export const OWNER = 'isthmus.io/owner'
/**
 * Annotation: hash of what was applied. Members that others add to the object are left alone; one that we applied and no longer
 * want is known by this.
 */
const APPLIED = 'isthmus.io/applied'
const DATA_PORT = 15443
/** The image's own user. */
const USER = 65_532

export interface GatewayPodOptions {
  readonly cluster: string
  readonly image: string
  /** Where the pods find discovery, `host:port`. */
  readonly discovery: string
  /** Folder in the pod where its certificate is mounted. Default `/etc/isthmus/certs`. */
  readonly certs?: string
  /** Writable folder in the pod. Default `/run/isthmus`. */
  readonly runDir?: string
}

/** Deployment and Service of one gateway object; its certificate comes from Secret `<name>-certs`. */
export function gatewayManifests(
  object: IngressGateway | Gateway,
  options: GatewayPodOptions,
): readonly Manifest[] {
  const { name, namespace } = object.metadata
  const metadata = {
    name,
    namespace,
    labels: { app: name, [MANAGED_BY]: MANAGER },
    annotations: { [OWNER]: refKey(refOf(object)) },
  }
  const { service, replicas } = object.spec
  const manifests = [
    {
      apiVersion: 'apps/v1',
      kind: 'Deployment',
      metadata,
      spec: {
        replicas,
        selector: { matchLabels: { app: name } },
        template: {
          metadata: { labels: { app: name }, annotations: { 'sidecar.istio.io/inject': 'false' } },
          spec: podSpec(object, options),
        },
      },
    },
    {
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { ...metadata, annotations: { ...service.annotations, ...metadata.annotations } },
      spec: {
        type: service.type,
        selector: { app: name },
        ports: [{ name: 'tls', port: DATA_PORT, targetPort: DATA_PORT, protocol: 'TCP' }],
      },
    },
  ]
  return manifests.map(({ metadata: { annotations, ...others }, ...rest }) => {
    const applied = contentHash(canonicalJson({ annotations, others, rest }))
    return { ...rest, metadata: { ...others, annotations: { ...annotations, [APPLIED]: applied } } }
  })
}

function podSpec(object: IngressGateway | Gateway, options: GatewayPodOptions): Manifest {
  const { name, namespace } = object.metadata
  const { certs = '/etc/isthmus/certs', runDir = '/run/isthmus' } = options
  const drainSeconds = Math.ceil(object.spec.drainMs / 1000)
  return {
    serviceAccountName: name,
    automountServiceAccountToken: false,
    securityContext: {
      runAsNonRoot: true,
      runAsUser: USER,
      runAsGroup: USER,
      fsGroup: USER,
      seccompProfile: { type: 'RuntimeDefault' },
    },
    // The drain, and a little to die in.
    terminationGracePeriodSeconds: drainSeconds + 15,
    containers: [
      {
        name: 'gateway',
        image: options.image,
        command: ['isthmus', 'gateway'],
        args: [
          ...['--cluster', options.cluster],
          ...['--name', name],
          ...['--namespace', namespace],
          ...['--discovery', options.discovery],
          ...['--certs', certs],
          ...['--run-dir', runDir],
          ...['--drain', `${drainSeconds}s`],
        ],
        ports: [
          { name: 'tls', containerPort: DATA_PORT },
          { name: 'health', containerPort: 15021 },
          { name: 'metrics', containerPort: 15020 },
        ],
        startupProbe: { httpGet: { path: '/livez', port: 15021 }, periodSeconds: 1, failureThreshold: 30 },
        livenessProbe: { httpGet: { path: '/livez', port: 15021 } },
        readinessProbe: { httpGet: { path: '/readyz', port: 15021 }, periodSeconds: 2 },
        lifecycle: { preStop: { exec: { command: ['isthmus', 'drain'] } } },
        securityContext: {
          allowPrivilegeEscalation: false,
          capabilities: { drop: ['ALL'] },
          readOnlyRootFilesystem: true,
        },
        volumeMounts: [
          { name: 'certs', mountPath: certs, readOnly: true },
          { name: 'run', mountPath: runDir },
        ],
      },
    ],
    volumes: [
      { name: 'certs', secret: { secretName: `${name}-certs`, defaultMode: 0o440 } },
      { name: 'run', emptyDir: { medium: 'Memory' } },
    ],
  }
}
