// Tetrate's kinds: api.tsb.tetrate.io/v2 (also tsb.tetrate.io/v2) and install.tetrate.io/v1alpha1.
import type { Field } from './field.ts'
import { PORTS_ANNOTATION, parsePortList } from './port-list.ts'
import { dnsLabel, ipRanges, readAnnotations, readDurationMs, readLabels } from './rules.ts'
import { readFailover } from './tetrate-failover.ts'
import type {
  Cluster,
  EastWestGatewaySetting,
  GatewaySpec,
  NamespaceName,
  OrganizationSetting,
  Workspace,
  WorkspaceSetting,
} from './types.ts'
import {
  MODE_ANNOTATION,
  PEER_LEASE_ANNOTATION,
  PEER_LEASE_MS,
  PEER_LOSS_ANNOTATION,
  PROXY_SOURCES_ANNOTATION,
  REACHABILITY_ANNOTATION,
  SERVICE_MODES,
  type ServiceMode,
  WEIGHT_ANNOTATION,
} from './types.ts'

const REPLICAS_MAX = 10_000
/** Istio's own drain is 5 s, Envoy's 600 s; this leaves a usual pod its 60 s of grace. */
const DRAIN_DEFAULT_MS = 45_000

export function readWorkspace(document: Field): Workspace['spec'] {
  const names = document.get('spec').get('namespaceSelector').get('names')
  names.require('a list of <cluster>/<namespace>')
  return { namespaces: names.list(readNamespaceName) }
}

/** `c1/ns1`, `c1/*`, `c1/ns*`, or any of the namespaces with `*` as the cluster. */
function readNamespaceName(field: Field): NamespaceName {
  const text = field.text()
  const [cluster = '', namespace = '', ...rest] = text.split('/')
  const clusterOk = cluster === '*' || /^[A-Za-z0-9][-A-Za-z0-9_.]*$/.test(cluster)
  const namespaceOk = /^([a-z0-9][-a-z0-9]*)?\*$/.test(namespace) || dnsLabel(namespace) === undefined
  if (typeof field.value === 'string' && !(clusterOk && namespaceOk && rest.length === 0))
    field.wrong(
      `expected <cluster>/<namespace> such as */bookinfo, c1/ns1 or c1/ns*, found ${JSON.stringify(text)}`,
    )
  return { cluster, namespace }
}

export function readWorkspaceSetting(document: Field): WorkspaceSetting['spec'] {
  const settings = document.get('spec').get('defaultEastWestGatewaySettings')
  const failover = readFailover(document.get('spec'))
  return { defaultEastWestGatewaySettings: settings.list(readEastWestGatewaySetting), failover }
}

function readEastWestGatewaySetting(setting: Field): EastWestGatewaySetting {
  // A misspelt `exposedServices` would read as "none given", which exposes every service of the workspace.
  setting.only(['workloadSelector', 'exposedServices', 'configGenerationMetadata'])
  const selector = setting.get('workloadSelector')
  selector.only(['namespace', 'labels'])
  selector.get('labels').require('the labels of the gateway pods')
  const annotations = setting.get('configGenerationMetadata').get('annotations')
  return {
    workloadSelector: {
      namespace: selector.get('namespace').text(undefined, dnsLabel),
      labels: readLabels(selector.get('labels')),
    },
    exposedServices: setting.get('exposedServices').list((item) => {
      item.only(['serviceLabels'])
      item.get('serviceLabels').require('the labels of the services')
      return { serviceLabels: readLabels(item.get('serviceLabels')) }
    }),
    mode: readMode(annotations.get(MODE_ANNOTATION)),
    ports: parsePortList(annotations.get(PORTS_ANNOTATION).text('', portList)),
  }
}

const portList = (text: string): string | undefined =>
  parsePortList(text) === undefined ? 'names or numbers of ports, separated by commas' : undefined

function readMode(annotation: Field): ServiceMode | undefined {
  return annotation.present ? annotation.oneOf(SERVICE_MODES) : undefined
}

const annotation = (document: Field, name: string): Field =>
  document.get('metadata').get('annotations').get(name)

export function readOrganizationSetting(document: Field): OrganizationSetting['spec'] {
  const reachability = annotation(document, REACHABILITY_ANNOTATION).oneOf(
    ['enforce', 'advertise'],
    'enforce',
  )
  const failover = readFailover(document.get('spec'))
  const settings = document.get('spec').get('networkSettings')
  settings.only(['networkReachability'])
  const relation = settings.get('networkReachability')
  if (!relation.present) return { networkReachability: undefined, reachability, failover }
  const pairs = relation
    .entries()
    .map(([network, targets]): [string, string[]] => [network, splitList(targets.text())])
  return { networkReachability: new Map(pairs), reachability, failover }
}

/** `"vpc02, vpc03"` → two names. */
function splitList(text: string): string[] {
  const names = text.split(',').map((name) => name.trim())
  return [...new Set(names.filter((name) => name !== ''))]
}

export function readCluster(document: Field): Cluster['spec'] {
  const spec = document.get('spec')
  const locality = spec.get('locality')
  return {
    network: spec.get('network').text(''),
    trustDomain: spec
      .get('trustDomain')
      .text('', (text) =>
        /^[a-z0-9._-]{0,255}$/.test(text) ? undefined : 'a SPIFFE trust domain (a-z 0-9 . _ -)',
      ),
    locality: { region: locality.get('region').text(''), zone: locality.get('zone').text('') },
    weight: Number(annotation(document, WEIGHT_ANNOTATION).text('100', percent)),
    onPeerLoss: annotation(document, PEER_LOSS_ANNOTATION).oneOf(['keep', 'withdraw'], 'withdraw'),
    peerLeaseMs: readDurationMs(annotation(document, PEER_LEASE_ANNOTATION), PEER_LEASE_MS),
  }
}

const WEIGHT_PERCENT_MAX = 1_000
const percent = (text: string): string | undefined =>
  /^(0|[1-9]\d{0,3})$/.test(text) && Number(text) <= WEIGHT_PERCENT_MAX
    ? undefined
    : `a percentage from 0 to ${WEIGHT_PERCENT_MAX}, in quotes`

export function readIngressGateway(document: Field): GatewaySpec {
  const eastWestOnly = document.get('spec').get('eastWestOnly').flag(false)
  return { ...readGatewayCommon(document), eastWest: true, eastWestOnly }
}

export function readGateway(document: Field): GatewaySpec {
  const type = document.get('spec').get('type').oneOf(['UNIFIED', 'INGRESS', 'EGRESS', 'EASTWEST'], 'UNIFIED')
  return { ...readGatewayCommon(document), eastWest: type !== 'EGRESS', eastWestOnly: type === 'EASTWEST' }
}

function readGatewayCommon(document: Field): Omit<GatewaySpec, 'eastWest' | 'eastWestOnly'> {
  const spec = document.get('spec')
  const kubeSpec = spec.get('kubeSpec')
  const service = kubeSpec.get('service')
  return {
    drainMs: readDurationMs(spec.get('connectionDrainDuration'), DRAIN_DEFAULT_MS),
    proxyProtocolSources: splitList(annotation(document, PROXY_SOURCES_ANNOTATION).text('', ipRanges)),
    replicas: kubeSpec.get('deployment').get('replicaCount').integer(0, REPLICAS_MAX, 1),
    service: {
      type: service.get('type').oneOf(['ClusterIP', 'NodePort', 'LoadBalancer'], 'LoadBalancer'),
      annotations: readAnnotations(service.get('annotations')),
    },
  }
}
